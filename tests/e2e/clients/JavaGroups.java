// The Java consumer in groups: JavaGroups BOOTSTRAP. The consumer protocol (KIP-848) with both assignors and a SubscriptionPattern, static
// members, the classic protocol with its defaults, and from one to the other and back while records flow.
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.serialization.*;

public class JavaGroups {
    static String bootstrap;
    static Admin admin;
    static Producer<byte[], Long> producer;
    static long number;

    static void check(boolean ok, String what) {
        if (!ok) throw new AssertionError(what);
    }

    static void create(String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get(20, TimeUnit.SECONDS);
    }

    static Set<Long> produce(String topic, int n, int partitions) throws Exception {
        Set<Long> out = new HashSet<>();
        for (int i = 0; i < n; i++) {
            producer.send(new ProducerRecord<>(topic, (int) (number % partitions), null, number)).get(20, TimeUnit.SECONDS);
            out.add(number++);
        }
        return out;
    }

    static class Member {
        final KafkaConsumer<byte[], Long> c;
        final List<Long> seen = new ArrayList<>();
        boolean lost;

        Member(String group, Map<String, Object> more) {
            Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "key.deserializer", ByteArrayDeserializer.class, "value.deserializer", LongDeserializer.class));
            conf.putAll(more);
            c = new KafkaConsumer<>(conf);
        }

        Member on(String topic) {
            c.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                public void onPartitionsAssigned(Collection<TopicPartition> p) { }
                public void onPartitionsRevoked(Collection<TopicPartition> p) { }
                public void onPartitionsLost(Collection<TopicPartition> p) { lost = true; }
            });
            return this;
        }

        void poll() {
            ConsumerRecords<byte[], Long> records = c.poll(Duration.ofMillis(50));
            for (ConsumerRecord<byte[], Long> r : records) seen.add(r.value());
            if (!records.isEmpty()) c.commitSync(Duration.ofSeconds(20));
        }
    }

    static Map<String, Object> consumer(String... more) {
        Map<String, Object> m = new HashMap<>(Map.of("group.protocol", "consumer"));
        for (int i = 0; i < more.length; i += 2) m.put(more[i], more[i + 1]);
        return m;
    }

    static Map<String, Object> classic() {
        return Map.of("group.protocol", "classic", "heartbeat.interval.ms", 500);
    }

    static void until(String what, List<Member> members, BooleanSupplier done) {
        long end = System.nanoTime() + 60_000_000_000L;
        while (!done.getAsBoolean()) {
            if (System.nanoTime() > end) {
                StringBuilder s = new StringBuilder();
                for (Member m : members) s.append(m.c.assignment()).append(' ').append(m.seen.size()).append("; ");
                throw new AssertionError(what + ": " + s);
            }
            for (Member m : members) m.poll();
        }
    }

    static boolean settled(List<Member> members, int total) {
        Set<TopicPartition> all = new HashSet<>();
        int least = Integer.MAX_VALUE, most = 0, sum = 0;
        for (Member m : members) {
            int n = m.c.assignment().size();
            all.addAll(m.c.assignment());
            sum += n;
            least = Math.min(least, n);
            most = Math.max(most, n);
        }
        return sum == total && all.size() == total && most - least <= 1;
    }

    static boolean got(List<Member> members, Set<Long> wanted) {
        Set<Long> seen = new HashSet<>();
        for (Member m : members) seen.addAll(m.seen);
        return seen.containsAll(wanted);
    }

    static void once(List<Member> members) {
        Set<Long> all = new HashSet<>();
        for (Member m : members) {
            check(!m.lost, "partitions were lost");
            for (long n : m.seen) check(all.add(n), n + " came twice");
        }
    }

    static GroupType type(String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).all().get(20, TimeUnit.SECONDS).get(group).type();
    }

    static void protocol(String assignor) throws Exception {
        String topic = "t-" + assignor, group = "g-" + assignor;
        create(topic, 6);
        Set<Long> wanted = produce(topic, 60, 6);
        List<Member> members = new ArrayList<>(), all = new ArrayList<>();
        for (int n = 1; n <= 3; n++) {
            Member m = new Member(group, consumer("group.remote.assignor", assignor)).on(topic);
            members.add(m);
            all.add(m);
            wanted.addAll(produce(topic, 60, 6));
            until(n + " members", members, () -> settled(members, 6) && got(members, wanted));
        }
        check(type(group) == GroupType.CONSUMER, "type");
        members.remove(1).c.close();
        wanted.addAll(produce(topic, 60, 6));
        until("two are left", members, () -> settled(members, 6) && got(all, wanted));
        once(all);
        for (Member m : members) m.c.close();
    }

    static void pattern() throws Exception {
        create("pat-1", 2);
        Member m = new Member("g-pattern", consumer());
        m.c.subscribe(new SubscriptionPattern("pat-[0-9]+"));
        Set<Long> wanted = produce("pat-1", 10, 2);
        until("the first topic", List.of(m), () -> got(List.of(m), wanted));
        create("pat-2", 2);
        wanted.addAll(produce("pat-2", 10, 2));
        until("a topic that came later", List.of(m), () -> got(List.of(m), wanted) && settled(List.of(m), 4));
        m.c.close();
        Member bad = new Member("g-pattern", consumer());
        bad.c.subscribe(new SubscriptionPattern("a(?=b)"));
        try {
            until("refused", List.of(bad), () -> false);
            throw new AssertionError("an expression that is none");
        } catch (InvalidRegularExpression expected) {
            bad.c.close();
        }
    }

    static void instances() throws Exception {
        create("static", 4);
        Set<Long> wanted = produce("static", 20, 4);
        Member a = new Member("g-static", consumer("group.instance.id", "a")).on("static"), b = new Member("g-static", consumer("group.instance.id", "b")).on("static");
        until("two", List.of(a, b), () -> settled(List.of(a, b), 4) && got(List.of(a, b), wanted));
        Set<TopicPartition> had = Set.copyOf(b.c.assignment()), others = Set.copyOf(a.c.assignment());
        b.c.close();
        Member again = new Member("g-static", consumer("group.instance.id", "b")).on("static");
        until("it is back", List.of(a, again), () -> again.c.assignment().equals(had));
        check(a.c.assignment().equals(others), "the other one kept what it had");
        a.c.close();
        again.c.close();
    }

    static void migration() throws Exception {
        create("moves", 4);
        Set<Long> wanted = produce("moves", 20, 4);
        List<Member> now = new ArrayList<>(), all = new ArrayList<>();
        for (int i = 0; i < 2; i++) now.add(new Member("g-m", classic()).on("moves"));
        all.addAll(now);
        until("classic", now, () -> settled(now, 4) && got(all, wanted));
        check(type("g-m") == GroupType.CLASSIC, "classic");
        for (int i = 0; i < 2; i++) {
            Member m = new Member("g-m", consumer()).on("moves");
            now.add(m);
            all.add(m);
            wanted.addAll(produce("moves", 20, 4));
            until("a new one", now, () -> settled(now, 4) && got(all, wanted));
            check(type("g-m") == GroupType.CONSUMER, "consumer");
            now.remove(0).c.close();
            wanted.addAll(produce("moves", 20, 4));
            until("an old one less", now, () -> settled(now, 4) && got(all, wanted));
        }
        Member back = new Member("g-m", classic()).on("moves");
        now.add(back);
        all.add(back);
        until("one goes back", now, () -> settled(now, 4));
        for (int i = 0; i < 2; i++) {
            now.remove(0).c.close();
            wanted.addAll(produce("moves", 20, 4));
            until("a new one less", now, () -> settled(now, 4) && got(all, wanted));
        }
        check(type("g-m") == GroupType.CLASSIC, "classic again");
        once(all);
        for (Member m : now) m.c.close();
    }

    public static void main(String[] args) throws Exception {
        bootstrap = args[args.length - 1];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap, "key.serializer", ByteArraySerializer.class, "value.serializer", LongSerializer.class));
        protocol("uniform");
        protocol("range");
        pattern();
        instances();
        migration();
        System.out.println("ok");
    }
}
