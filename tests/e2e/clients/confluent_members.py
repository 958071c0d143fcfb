"""Classic groups of current librdkafka, eager and cooperative. Two members share; one leaves; every
record once, no partition with two owners; what was committed is found by the next one."""
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS, RECORDS = 6, 600
bootstrap = sys.argv[-1]
base = {"bootstrap.servers": bootstrap, "log_level": 3}
admin = AdminClient(base)
list(admin.create_topics([NewTopic("groups", PARTITIONS, 1)]).values())[0].result(20)


class Group:
    def __init__(self, name, config):
        self.name, self.config = name, {**base, "group.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": False, **config}
        self.cooperative = config["partition.assignment.strategy"] == "cooperative-sticky"
        self.members, self.owned, self.got = {}, {}, []

    def join(self, member):
        self.owned[member] = set()
        c = self.members[member] = Consumer({**self.config, "client.id": member})

        def on_assign(consumer, parts):
            new = {p.partition for p in parts}
            for other, owned in self.owned.items():
                assert other == member or not owned & new, f"{self.name}: {owned & new} of {other} are given to {member}"
            if self.cooperative:
                self.owned[member] |= new
                consumer.incremental_assign(parts)
            else:
                self.owned[member] = new
                consumer.assign(parts)

        def on_revoke(consumer, parts):
            self.commit(consumer)
            self.owned[member] -= {p.partition for p in parts}
            (consumer.incremental_unassign if self.cooperative else lambda _: consumer.unassign())(parts)
        c.subscribe(["groups"], on_assign=on_assign, on_revoke=on_revoke)

    def until(self, what, done):
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end, (self.name, what, self.owned, len(self.got))
            for c in self.members.values():
                for m in c.consume(100, 0.02):
                    assert m.error() is None, m.error()
                    self.got.append(m.value())
        return self

    @staticmethod
    def commit(consumer):
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as e:
            assert e.args[0].name() in ("_NO_OFFSET", "_DESTROY"), e  # nothing new; or close() has been through here

    def leave(self, member):
        c = self.members.pop(member)
        self.commit(c)
        c.close()
        del self.owned[member]


def produce(first, last):
    p = Producer(base)
    for i in range(first, last):
        p.produce("groups", b"%d" % i, partition=i % PARTITIONS)
    assert p.flush(30) == 0


fast = {"heartbeat.interval.ms": 200, "session.timeout.ms": 6000}
modes = {"range": {"partition.assignment.strategy": "range", **fast}, "cooperative": {"partition.assignment.strategy": "cooperative-sticky", **fast}}
produced = 0
groups = {}
for name, config in modes.items():
    g = groups[name] = Group(f"confluent-{name}", config)
    produce(produced, produced + RECORDS)
    produced += RECORDS
    g.join("a")
    g.until("one member", lambda: len(g.owned["a"]) == PARTITIONS and len(g.got) == produced)
    g.join("b")
    g.until("two members", lambda: sorted(len(o) for o in g.owned.values()) == [3, 3])
    held = dict(g.owned)
    assert not held["a"] & held["b"]
    g.leave("a")
    g.until("one is left", lambda: len(g.owned["b"]) == PARTITIONS)
    g.leave("b")
    produce(produced, produced + RECORDS)
    produced += RECORDS
    before = len(g.got)
    g.join("c")
    g.until("the next one", lambda: len(g.got) - before >= RECORDS)
    repeated = [v for v in g.got[before:] if int(v) < produced - RECORDS]
    assert not repeated, (name, len(repeated), "records were committed and came again")
    g.leave("c")
    committed = Consumer({**g.config}).committed([TopicPartition("groups", p) for p in range(PARTITIONS)], timeout=20)
    assert [t.offset for t in committed] == [produced // PARTITIONS] * PARTITIONS, committed
    print("ok", name)
listed = admin.list_consumer_groups().result(20).valid
assert {g.group_id for g in listed} >= {g.name for g in groups.values()}, listed
for f in admin.delete_consumer_groups([g.name for g in groups.values()]).values():
    f.result(20)
print("ok groups")
