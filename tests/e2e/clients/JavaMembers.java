import java.time.Duration;
import java.util.*;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** Classic groups of the Java client: with its defaults, cooperative, static members. */
public class JavaMembers {
    static final int PARTITIONS = 6, RECORDS = 600;
    static String bootstrap;

    static void check(boolean ok, String what) {
        if (!ok) throw new AssertionError(what);
    }

    static final class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final Set<Integer> owned = new TreeSet<>();
        final Group group;

        Member(Group group, Map<String, Object> more) {
            this.group = group;
            Map<String, Object> c = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group.name, "auto.offset.reset", "earliest"));
            c.putAll(more);
            consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer());
            group.members.add(this);
            consumer.subscribe(List.of("jg"), this);
        }
        public void onPartitionsRevoked(Collection<TopicPartition> parts) { for (TopicPartition p : parts) owned.remove(p.partition()); }
        public void onPartitionsAssigned(Collection<TopicPartition> parts) {
            for (TopicPartition p : parts) {
                for (Member m : group.members) check(m == this || !m.owned.contains(p.partition()), group.name + ": two owners of " + p);
                owned.add(p.partition());
            }
        }
        void close() {
            consumer.close();
            group.members.remove(this);
        }
    }

    static final class Group {
        final String name;
        final List<Member> members = new ArrayList<>();
        final List<String> got = new ArrayList<>();
        Group(String name) { this.name = name; }

        void until(String what, BooleanSupplier done) {
            long end = System.nanoTime() + 60_000_000_000L;
            while (!done.getAsBoolean()) {
                check(System.nanoTime() < end, name + ": waited for " + what + ", " + got.size() + " records");
                for (Member m : members) for (ConsumerRecord<String, String> r : m.consumer.poll(Duration.ofMillis(50))) got.add(r.value());
            }
        }
    }

    static int produced = 0;

    static void produce() {
        Map<String, Object> p = Map.of("bootstrap.servers", bootstrap);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < RECORDS; i++, produced++) producer.send(new ProducerRecord<>("jg", produced % PARTITIONS, null, "" + produced));
        }
    }

    static void share(String name, Map<String, Object> config, Admin admin) throws Exception {
        Group g = new Group(name);
        produce();
        Member a = new Member(g, config);
        g.until("one member", () -> a.owned.size() == PARTITIONS && g.got.size() == produced);
        Member b = new Member(g, config);
        g.until("two members", () -> a.owned.size() == 3 && b.owned.size() == 3);
        produce();
        g.until("records of both", () -> g.got.size() >= produced);
        Map<String, ConsumerGroupDescription> d = admin.describeConsumerGroups(List.of(name)).all().get();
        check(d.get(name).members().size() == 2, d.toString());
        a.close();
        g.until("one is left", () -> b.owned.size() == PARTITIONS);
        produce();
        g.until("the rest", () -> g.got.size() >= produced);
        b.close();
        check(g.got.size() == produced && new HashSet<>(g.got).size() == produced, name + ": " + g.got.size() + " records for " + produced);
        Map<TopicPartition, OffsetAndMetadata> offsets = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get();
        for (OffsetAndMetadata o : offsets.values()) check(o.offset() == produced / PARTITIONS, offsets.toString());
        check(offsets.size() == PARTITIONS, offsets.toString());
        System.out.println("ok " + name);
    }

    /** A static member that comes back within its session has its partitions again, and nobody else notices. */
    static void comeBack(Map<String, Object> config, String name) {
        Group g = new Group(name);
        Map<String, Object> one = new HashMap<>(config), two = new HashMap<>(config);
        one.put("group.instance.id", "one");
        two.put("group.instance.id", "two");
        Member first = new Member(g, one), second = new Member(g, two);
        g.until("two static members", () -> first.owned.size() == 3 && second.owned.size() == 3);
        Set<Integer> held = new TreeSet<>(first.owned);
        first.close();
        Member again = new Member(g, one);
        g.until("the same partitions", () -> again.owned.equals(held));
        check(second.owned.size() == 3, "the other one was disturbed");
        again.close();
        second.close();
        System.out.println("ok " + name);
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[args.length - 1];
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic("jg", PARTITIONS, (short) 1))).all().get();
            share("java-defaults", Map.of(), admin);
            share("java-cooperative", Map.of("heartbeat.interval.ms", 300, "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"), admin);
            comeBack(Map.of("heartbeat.interval.ms", 300), "java-static");
            Set<String> names = new TreeSet<>();
            for (GroupListing l : admin.listGroups().all().get()) names.add(l.groupId());
            check(names.containsAll(List.of("java-defaults", "java-cooperative", "java-static")), names.toString());
            admin.deleteConsumerGroups(List.of("java-defaults", "java-cooperative")).all().get();
            check(admin.listGroups().all().get().stream().noneMatch(l -> l.groupId().equals("java-defaults")), "deleted");
        }
    }
}
