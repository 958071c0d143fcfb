"""aiokafka: every codec, idempotence, groups of two with each assignor and with static members, admin; every record arrives once."""
import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

bootstrap = sys.argv[-1]
TOPIC, PARTITIONS, EACH = "aio", 4, 100


async def produce(codec):
    p = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec, enable_idempotence=codec is None)
    await p.start()
    sent = [await p.send(TOPIC, b"%s %d" % (str(codec).encode(), i), key=b"%d" % i, headers=[("h", b"x")]) for i in range(EACH)]
    await asyncio.gather(*sent)
    await p.stop()


async def group(admin, name, expected, **settings):
    members = [
        AIOKafkaConsumer(
            TOPIC, bootstrap_servers=bootstrap, group_id=name, auto_offset_reset="earliest", enable_auto_commit=False,
            **({"group_instance_id": f"{name}-{i}"} if name == "static" else {}), **settings)
        for i in range(2)]
    await asyncio.gather(*[m.start() for m in members])
    seen, deadline = {}, time.monotonic() + 60

    async def read(member):
        while len(seen) < expected:
            assert time.monotonic() < deadline, (name, len(seen))
            for records in (await member.getmany(timeout_ms=200)).values():
                for r in records:
                    seen[r.partition, r.offset] = r
        await member.commit()

    await asyncio.gather(*[read(m) for m in members])
    values = [r.value for r in seen.values()]
    assert len(set(values)) == len(values) == expected and all(r.headers == (("h", b"x"),) for r in seen.values()), name
    ends = await members[0].end_offsets([TopicPartition(TOPIC, p) for p in range(PARTITIONS)])
    committed = await admin.list_consumer_group_offsets(name)
    assert {tp: c.offset for tp, c in committed.items()} == ends and sum(ends.values()) == expected, (name, committed, ends)
    for m in members:
        await m.stop()


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    made = await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    assert made.topic_errors[0][1] == 0, made
    codecs = (None, "gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        await produce(codec)
    expected = EACH * len(codecs)
    await group(admin, "default", expected)
    await group(admin, "sticky", expected, partition_assignment_strategy=[StickyPartitionAssignor])
    await group(admin, "static", expected)
    assert {g for g, _ in await admin.list_consumer_groups()} == {"default", "sticky", "static"}
    altered = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC, configs={"retention.ms": "100000"})])
    assert altered[0].resources[0][0] == 0, altered
    assert "100000" in str(await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)]))
    grown = await admin.create_partitions({TOPIC: NewPartitions(6)})
    assert grown.topic_errors[0][1] == 0, grown
    assert len((await admin.describe_topics([TOPIC]))[0]["partitions"]) == 6
    gone = await admin.delete_topics([TOPIC])
    assert gone.topic_error_codes[0][1] == 0, gone
    await admin.close()


asyncio.run(asyncio.wait_for(main(), 200))
print("aiokafka: ok")
