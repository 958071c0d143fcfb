import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** A producer and a group's members of the Java client, all with their defaults, for ride.py, which says what they print. */
public class JavaRide {
    static final AtomicBoolean over = new AtomicBoolean();

    static synchronized void say(String line) {
        System.out.println(line);
    }

    static class Member extends Thread implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final String topic, name;

        Member(String bootstrap, String topic, String group, String name) {
            this.topic = topic;
            this.name = name;
            consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset", "earliest"),
                new StringDeserializer(), new StringDeserializer());
        }

        @Override public void onPartitionsAssigned(Collection<TopicPartition> p) { say("assigned " + name + " " + p.size()); }
        @Override public void onPartitionsRevoked(Collection<TopicPartition> p) { say("revoked " + name + " " + p.size()); }
        @Override public void onPartitionsLost(Collection<TopicPartition> p) { say("lost " + name + " " + p.size()); }

        @Override public void run() {
            try (consumer) {
                consumer.subscribe(List.of(topic), this);
                while (!over.get())
                    for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(100)))
                        say("read " + name + " " + r.partition() + " " + r.offset() + " " + r.value());
            } catch (Exception e) {
                say("broken " + name + " " + e);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0], topic = args[1], who = args[2];
        int partitions = Integer.parseInt(args[3]), rate = Integer.parseInt(args[4]);
        List<Member> members = List.of(new Member(bootstrap, topic, who, "1"), new Member(bootstrap, topic, who, "2"));
        for (Member m : members) m.start();
        AtomicBoolean stop = new AtomicBoolean();
        Thread produce = new Thread(() -> produce(bootstrap, topic, who, partitions, rate, stop));
        produce.start();
        Scanner in = new Scanner(System.in, StandardCharsets.UTF_8);
        if (in.hasNextLine()) in.nextLine();
        stop.set(true);
        produce.join();
        say("produced");
        while (in.hasNextLine()) in.nextLine();
        over.set(true);
        for (Member m : members) m.join();
    }

    static void produce(String bootstrap, String topic, String who, int partitions, int rate, AtomicBoolean stop) {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer())) {
            long due = System.nanoTime();
            for (int i = 1; !stop.get(); i++) {
                String value = who + ":" + i + ":";
                producer.send(new ProducerRecord<>(topic, i % partitions, null, value), (m, e) -> say(e != null
                    ? "failed " + value + " " + e : "acked " + System.nanoTime() / 1000 + " " + m.partition() + " " + m.offset() + " " + value));
                due = Math.max(due + 1_000_000_000L / rate, System.nanoTime() - 100_000_000L);
                long wait = due - System.nanoTime();
                if (wait > 0) Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
            }
        } catch (Exception e) {
            say("broken producer " + e);
        }
    }
}
