"""Client quotas: a producer that is throttled loses nothing, quotas survive kill -9, and who is throttled holds up nobody else."""
import struct

from harness import Skip, wait_for
from raw import Client, Reader, batch, produce_body, string


def alter(c, client_id, key, value):
    """AlterClientQuotas 0 for one client id; None removes."""
    entity = struct.pack(">i", 1) + string("client-id") + string(client_id)
    op = struct.pack(">i", 1) + string(key) + struct.pack(">db", value or 0, value is None)
    r = Reader(c.call(49, 0, struct.pack(">i", 1) + entity + op + b"\0"))
    r.get("ii")  # correlation id, throttle time
    assert r.get("i") == 1
    error, message = r.get("h"), r.string()
    assert error == 0, message


def describe(c):
    """{client id: {key: value}} by DescribeClientQuotas 0"""
    r = Reader(c.call(48, 0, struct.pack(">ib", 0, 0)))
    r.get("ii")
    error, message = r.get("h"), r.string()
    assert error == 0, message
    out = {}
    for _ in range(r.get("i")):
        assert r.get("i") == 1 and r.string() == "client-id"
        values = out.setdefault(r.string(), {})
        for _ in range(r.get("i")):
            key = r.string()
            values[key] = r.get("d")
    return out


def throttle_of_produce(data):
    return struct.unpack(">i", data[-4:])[0]  # version 8 ends with it


def test_a_throttled_producer_loses_nothing(ctx):
    try:
        from confluent_kafka import Consumer, Producer, TopicPartition
    except ImportError as e:
        raise Skip(f"confluent-kafka for Python: {e}")
    b = ctx.broker(settings={"quota.window.num": 2})
    alter(Client(b), "slow", "producer_byte_rate", 400000)
    pauses, failures = [], []
    p = Producer({"bootstrap.servers": b.bootstrap, "client.id": "slow", "enable.idempotence": True, "linger.ms": 5, "batch.size": 50000,
                  "throttle_cb": lambda e: pauses.append(e.throttle_time)})
    values = [b"%d " % i + b"x" * 990 for i in range(1200)]
    for v in values:
        p.produce("t", v, on_delivery=lambda error, _: failures.append(error) if error else None)
        p.poll(0)
    assert p.flush(60) == 0 and not failures, failures
    assert any(t > 0 for t in pauses), pauses
    c = Consumer({"bootstrap.servers": b.bootstrap, "group.id": "g", "enable.auto.commit": False})
    c.assign([TopicPartition("t", 0, 0)])
    got = []
    wait_for("all records", lambda: got.extend(m.value() for m in c.consume(500, 0.5) if not m.error()) or len(got) >= len(values))
    c.close()
    assert got == values


def test_quotas_after_a_crash_and_other_clients(ctx):
    b = ctx.broker(settings={"quota.window.num": 2})
    c = Client(b)
    assert c.create("t") == [0]
    alter(c, "e2e", "producer_byte_rate", 1000)
    alter(c, "other", "request_percentage", 12.5)
    alter(c, "gone", "producer_byte_rate", 5)
    alter(c, "gone", "producer_byte_rate", None)
    b.kill9()
    b.start()
    c, mine = Client(b), Client(b)
    assert describe(c) == {"e2e": {"producer_byte_rate": 1000}, "other": {"request_percentage": 12.5}}
    alter(c, "raw", "producer_byte_rate", 1000)  # as these connections call themselves
    data = mine.call(0, 8, produce_body([("t", 0, batch(b"x" * 50000))]))
    assert throttle_of_produce(data) > 10000  # it would take most of a minute: this connection is not read until then
    mine.request(0, 8, produce_body([("t", 0, batch(b"late"))]))
    assert c.fetch("t", 0)[1] == 1            # the write was done, the next one is not read, and others are served
    alter(c, "raw", "producer_byte_rate", None)
    assert Client(b).produce("t", batch(b"y"))[0] == 0
    assert c.fetch("t", 0)[1] == 2
    assert b.stop() == 0                      # nor does a paused connection hold up the end
