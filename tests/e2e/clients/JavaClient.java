import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.*;

/** The Java client with its defaults (idempotence on, acks=all, newest versions of every API). */
public class JavaClient {
    static void check(boolean ok, String what) {
        if (!ok) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String bootstrap = args[args.length - 1];
        Map<String, Object> base = Map.of("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(base)) {
            admin.createTopics(List.of(new NewTopic("j", 3, (short) 1).configs(Map.of("retention.ms", "80000000")))).all().get();
            try {
                admin.createTopics(List.of(new NewTopic("j", 3, (short) 1))).all().get();
                check(false, "created twice");
            } catch (ExecutionException e) {
                check(e.getCause() instanceof TopicExistsException, e.toString());
            }
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) produceAndConsume(base, codec, 200_000);

            ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, "j");
            Config config = admin.describeConfigs(List.of(topic)).all().get().get(topic);
            check(config.get("retention.ms").value().equals("80000000"), "retention.ms " + config.get("retention.ms"));
            check(config.get("retention.ms").source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "source");
            check(config.entries().size() > 25, "only " + config.entries().size() + " topic configs");
            admin.incrementalAlterConfigs(Map.of(topic, List.of(
                new AlterConfigOp(new ConfigEntry("retention.ms", "70000000"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)))).all().get();
            config = admin.describeConfigs(List.of(topic)).all().get().get(topic);
            check(config.get("retention.ms").value().equals("70000000"), "altered");
            check(config.get("cleanup.policy").value().equals("delete,compact"), "appended: " + config.get("cleanup.policy").value());
            admin.createPartitions(Map.of("j", NewPartitions.increaseTo(5))).all().get();
            check(admin.describeTopics(List.of("j")).allTopicNames().get().get("j").partitions().size() == 5, "partitions");
            check(admin.describeCluster().nodes().get().size() == 1, "nodes");
            check(admin.describeCluster().controller().get() != null, "controller");
            admin.deleteTopics(List.of("j")).all().get();
            check(!admin.listTopics().names().get().contains("j"), "deleted");
        }
        System.out.println("ok");
    }

    static void produceAndConsume(Map<String, Object> base, String codec, int count) throws Exception {
        String name = "java-" + codec;
        Map<String, Object> p = new HashMap<>(base);
        p.put("compression.type", codec);
        List<List<String>> sent = List.of(new ArrayList<>(), new ArrayList<>(), new ArrayList<>());
        List<Exception> failures = Collections.synchronizedList(new ArrayList<>());
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int i = 0; i < count; i++) {
                String value = "value " + i + " " + Integer.toHexString(i * 2654435);
                int partition = i % 3;
                sent.get(partition).add(value);
                ProducerRecord<byte[], byte[]> r = new ProducerRecord<>(name, partition, i % 2 == 0 ? null : ("k" + i).getBytes(StandardCharsets.UTF_8),
                    value.getBytes(StandardCharsets.UTF_8));
                if (i % 17 == 0) r.headers().add("h", new byte[] {1, 2});
                producer.send(r, (m, e) -> { if (e != null) failures.add(e); });
            }
            producer.flush();
        }
        check(failures.isEmpty(), codec + ": " + failures);
        Map<String, Object> c = new HashMap<>(base);
        c.put("auto.offset.reset", "earliest");
        c.put("enable.auto.commit", false);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(c, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = List.of(new TopicPartition(name, 0), new TopicPartition(name, 1), new TopicPartition(name, 2));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            int[] next = new int[3];
            int got = 0, idle = 0;
            while (got < count) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(5));
                check(!records.isEmpty() || idle++ < 5, codec + ": stuck after " + got);
                for (ConsumerRecord<byte[], byte[]> r : records) {
                    check(r.offset() == next[r.partition()], "offset " + r.offset());
                    check(new String(r.value(), StandardCharsets.UTF_8).equals(sent.get(r.partition()).get(next[r.partition()]++)), "value");
                    got++;
                }
            }
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            for (TopicPartition tp : all) check(ends.get(tp) == next[tp.partition()], "end " + ends.get(tp));
            OffsetAndTimestamp first = consumer.offsetsForTimes(Map.of(all.get(0), 1L)).get(all.get(0));
            check(first != null && first.offset() == 0, "by time");
        }
        System.out.println("ok " + name);
    }
}
