"""Current librdkafka: every codec, idempotence, admin, times; counts, order and bytes equal."""
import os
import random
import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, OffsetSpec

bootstrap = sys.argv[-1]
base = {"bootstrap.servers": bootstrap, "log_level": 3}
admin = AdminClient(base)


def read_all(topic, partitions):
    c = Consumer({**base, "group.id": "g", "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    out = {}
    for p in range(partitions):
        low, high = c.get_watermark_offsets(TopicPartition(topic, p), timeout=20)
        out[p] = []
        if low == high:
            continue
        c.assign([TopicPartition(topic, p, low)])
        while not out[p] or out[p][-1].offset() < high - 1:
            m = c.poll(20)
            assert m is not None and m.error() is None, (topic, p, m and m.error())
            out[p].append(m)
        assert [m.offset() for m in out[p]] == list(range(high)), "offsets are not dense"
    c.close()
    return out


for f in admin.create_topics([NewTopic(n, 3, 1, config={"retention.ms": "90000000"}) for n in ("a", "b")]).values():
    f.result(20)
try:
    list(admin.create_topics([NewTopic("a", 3, 1)]).values())[0].result(20)
    raise SystemExit("creating twice did not fail")
except KafkaException as e:
    assert e.args[0].name() == "TOPIC_ALREADY_EXISTS", e
r = random.Random(3)
for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    for idempotent in (False, True):
        topic = f"{codec}-{idempotent}".lower()
        list(admin.create_topics([NewTopic(topic, 3, 1)]).values())[0].result(20)
        p = Producer({**base, "compression.type": codec, "enable.idempotence": idempotent, "linger.ms": 5,
                      "queue.buffering.max.messages": 1000000})
        sent, failures = {0: [], 1: [], 2: []}, []
        for i in range(100000):
            part = i % 3
            key = None if i % 5 == 0 else (b"" if i % 7 == 0 else b"k%d" % i)
            value = None if i % 11 == 0 else r.randbytes(r.randrange(0, 60))
            headers = [("h", b"%d" % i), ("n", None)] if i % 13 == 0 else None
            while True:
                try:
                    p.produce(topic, value, key, part, headers=headers, on_delivery=lambda e, m: e and failures.append(e))
                    break
                except BufferError:
                    p.poll(0.1)
            sent[part].append((key, value, headers))
            if i % 1000 == 0:
                p.poll(0)
        assert p.flush(60) == 0 and not failures, failures[:3]
        for part, rows in read_all(topic, 3).items():
            got = [(m.key(), m.value(), m.headers()) for m in rows]
            want = [(k, v, h) for k, v, h in sent[part]]
            assert got == want, (topic, part, [x for x in zip(got, want) if x[0] != x[1]][:1])
        print("ok", topic)

# A megabyte in one record, a topic's limit above the default.
list(admin.create_topics([NewTopic("big", 1, 1, config={"max.message.bytes": "3000000"})]).values())[0].result(20)
p = Producer({**base, "message.max.bytes": 3000000})
big = os.urandom(2_000_000)
p.produce("big", big)
assert p.flush(60) == 0
assert read_all("big", 1)[0][0].value() == big

# Admin: configs, partitions, offsets, deletion.
resource = ConfigResource(ConfigResource.Type.TOPIC, "a")
configs = admin.describe_configs([resource])[resource].result(20)
assert configs["retention.ms"].value == "90000000" and configs["cleanup.policy"].value == "delete"
broker = ConfigResource(ConfigResource.Type.BROKER, "1")
assert admin.describe_configs([broker])[broker].result(20)["num.partitions"].value == "3"
list(admin.create_partitions([NewPartitions("a", 6)]).values())[0].result(20)
assert len(admin.list_topics(timeout=20).topics["a"].partitions) == 6
latest = admin.list_offsets({TopicPartition("big", 0): OffsetSpec.latest()})[TopicPartition("big", 0)].result(20)
assert latest.offset == 1, latest
cluster = admin.describe_cluster().result(20)
assert len(cluster.nodes) == 1 and cluster.cluster_id
for f in admin.delete_topics(["a", "b"]).values():
    f.result(20)
assert "a" not in admin.list_topics(timeout=20).topics
print("ok admin")
