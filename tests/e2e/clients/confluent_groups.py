"""Current librdkafka in groups of the consumer protocol (KIP-848), of the classic one, and of both at a time:
every record comes, none twice where members hand over in peace; who stays keeps what they can."""
import sys
import time

from confluent_kafka import Consumer, ConsumerGroupType, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

bootstrap = sys.argv[-1]
base = {"bootstrap.servers": bootstrap, "log_level": 3}
admin = AdminClient(base)
producer = Producer({**base, "linger.ms": 1})
number = 0


def create(name, partitions):
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)


def produce(topic, n, partitions):
    global number
    out = set()
    for _ in range(n):
        producer.produce(topic, b"%d" % number, partition=number % partitions)
        out.add(number)
        number += 1
    assert producer.flush(20) == 0
    return out


class Member:
    def __init__(self, group, protocol, topics, **more):
        conf = {**base, "group.id": group, "group.protocol": protocol, "auto.offset.reset": "earliest", "enable.auto.commit": False, **more}
        if protocol == "classic":
            conf.setdefault("partition.assignment.strategy", "cooperative-sticky")
            conf.setdefault("heartbeat.interval.ms", 500)
        self.c, self.seen, self.errors, self.lost = Consumer(conf), [], [], 0
        self.c.subscribe(topics, on_lost=self.was_lost)

    def was_lost(self, c, partitions):
        self.lost += 1

    def poll(self):
        m = self.c.poll(0.05)
        if m is None:
            return
        if m.error():
            self.errors.append(m.error())
        else:
            self.seen.append(int(m.value()))
            self.c.commit(m, asynchronous=False)

    def has(self):
        return sorted((p.topic, p.partition) for p in self.c.assignment())

    def close(self):
        self.c.close()


def until(what, members, done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, (what, [(m.has(), len(m.seen), m.errors) for m in members])
        for m in members:
            m.poll()


def settled(members, total):
    """All partitions are with members, each with one, nobody with two more than another."""
    has = [m.has() for m in members]
    flat = [p for h in has for p in h]
    return len(flat) == total == len(set(flat)) and max(map(len, has)) - min(map(len, has)) <= 1


def got(members, wanted):
    return set(n for m in members for n in m.seen) >= wanted


def once(members):
    seen = [n for m in members for n in m.seen]
    assert len(seen) == len(set(seen)), "records came twice"


def of(group):
    return admin.describe_consumer_groups([group], request_timeout=20)[group].result(20)


def join_and_leave():
    create("t", 6)
    wanted = produce("t", 300, 6)
    members = [Member("g1", "consumer", ["t"])]
    until("one", members, lambda: settled(members, 6) and got(members, wanted))
    for n in (2, 3):
        members.append(Member("g1", "consumer", ["t"]))
        wanted |= produce("t", 200, 6)
        until(f"{n} members", members, lambda: settled(members, 6) and got(members, wanted))
    kept = [m.has() for m in members]
    d = of("g1")
    assert d.type == ConsumerGroupType.CONSUMER and d.state.name == "STABLE" and len(d.members) == 3, (d.type, d.state, len(d.members))
    assert sorted((p.topic, p.partition) for m in d.members for p in m.assignment.topic_partitions) == [("t", p) for p in range(6)]
    gone = members.pop(0)
    gone.close()
    wanted |= produce("t", 200, 6)
    everybody = members + [gone]
    until("two are left", members, lambda: settled(members, 6) and got(everybody, wanted))
    for m, before in zip(members, kept[1:]):
        assert set(before) <= set(m.has()), (before, m.has())
    once(everybody)
    assert not any(m.lost or m.errors for m in everybody), [(m.lost, m.errors) for m in everybody]
    admin.create_partitions([NewPartitions("t", 9)])["t"].result(20)
    until("its partitions are known", members, lambda: len(producer.list_topics("t", 10).topics["t"].partitions) == 9)
    wanted |= produce("t", 90, 9)
    until("the topic has grown", members, lambda: settled(members, 9) and got(everybody, wanted))
    once(everybody)
    for m in members:
        m.close()
    again = [Member("g1", "consumer", ["t"])]
    wanted = produce("t", 30, 9)
    until("after all had left", again, lambda: got(again, wanted))
    assert set(again[0].seen) == wanted, "committed offsets were not used"
    again[0].close()


def expressions():
    create("exp-1", 2)
    members = [Member("g2", "consumer", ["^exp-[0-9]+"], **{"topic.metadata.refresh.interval.ms": 2000})]
    wanted = produce("exp-1", 20, 2)
    until("the first topic", members, lambda: got(members, wanted))
    create("exp-2", 2)
    create("not-exp-2", 2)
    wanted |= produce("exp-2", 20, 2)
    until("a topic that came later", members, lambda: got(members, wanted) and settled(members, 4))
    assert of("g2").members[0].assignment is not None
    members[0].close()
    bad = Member("g3", "consumer", ["^x{1,1001}"])  # librdkafka takes it, RE2 does not
    until("an expression that is none", [bad], lambda: bad.errors)
    assert bad.errors[0].code() in (KafkaError.INVALID_REGULAR_EXPRESSION, KafkaError._FATAL), bad.errors
    bad.close()


def static_members():
    create("st", 4)
    wanted = produce("st", 40, 4)
    members = [Member("g4", "consumer", ["st"], **{"group.instance.id": f"i{i}"}) for i in range(2)]
    until("two static members", members, lambda: settled(members, 4) and got(members, wanted))
    kept = [m.has() for m in members]
    members[1].close()
    stays = members[0]
    until("the other waits for it", [stays], lambda: True)
    members[1] = Member("g4", "consumer", ["st"], **{"group.instance.id": "i1"})
    until("it is back", members, lambda: members[1].has() == kept[1])
    assert stays.has() == kept[0]
    second = Member("g4", "consumer", ["st"], **{"group.instance.id": "i0"})
    until("an instance id in use", [second, *members], lambda: second.errors)
    assert second.errors[0].code() in (KafkaError.UNRELEASED_INSTANCE_ID, KafkaError._FATAL), second.errors
    for m in (second, *members):
        m.close()


def migration(strategy):
    """Classic members, one after the other replaced by members of the consumer protocol, and back; records flow all the time."""
    group, topic = f"g-{strategy}", f"m-{strategy}"
    create(topic, 4)
    wanted = produce(topic, 40, 4)
    more = {"partition.assignment.strategy": strategy}
    old = [Member(group, "classic", [topic], **more) for _ in range(2)]
    everybody = list(old)
    until("classic", old, lambda: settled(old, 4) and got(old, wanted))
    assert of(group).type == ConsumerGroupType.CLASSIC
    new = [Member(group, "consumer", [topic])]
    everybody += new
    wanted |= produce(topic, 40, 4)
    until("both", old + new, lambda: settled(old + new, 4) and got(everybody, wanted))
    assert of(group).type == ConsumerGroupType.CONSUMER
    old.pop(0).close()
    new.append(Member(group, "consumer", [topic]))
    everybody.append(new[-1])
    wanted |= produce(topic, 40, 4)
    until("more new ones", old + new, lambda: settled(old + new, 4) and got(everybody, wanted))
    old.pop(0).close()
    wanted |= produce(topic, 40, 4)
    until("upgraded", new, lambda: settled(new, 4) and got(everybody, wanted))
    old = [Member(group, "classic", [topic], **more)]
    everybody += old
    until("one goes back", old + new, lambda: settled(old + new, 4))
    for _ in range(2):
        new.pop(0).close()
        wanted |= produce(topic, 40, 4)
        until("fewer new ones", old + new, lambda: settled(old + new, 4) and got(everybody, wanted))
    assert of(group).type == ConsumerGroupType.CLASSIC
    wanted |= produce(topic, 40, 4)
    until("downgraded", old, lambda: got(everybody, wanted))
    once(everybody)
    for m in old:
        m.close()


def offsets():
    create("o", 1)
    produce("o", 5, 1)
    m = Member("g5", "consumer", ["o"], **{"group.remote.assignor": "range"})
    until("reads", [m], lambda: len(m.seen) == 5)
    stranger = Consumer({**base, "group.id": "g5"})
    try:
        stranger.commit(offsets=[TopicPartition("o", 0, 1)], asynchronous=False)
        raise SystemExit("a stranger may commit")
    except KafkaException as e:
        assert e.args[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError._NO_OFFSET), e
    m.close()
    assert Consumer({**base, "group.id": "g5"}).committed([TopicPartition("o", 0)], timeout=20)[0].offset == 5
    f = admin.delete_consumer_groups(["g5"])["g5"]
    f.result(20)


chosen = sys.argv[1:-1]
for name, run in (("join_and_leave", join_and_leave), ("expressions", expressions), ("static_members", static_members), ("offsets", offsets),
                  ("cooperative", lambda: migration("cooperative-sticky")), ("eager", lambda: migration("range"))):
    if chosen and name not in chosen:
        continue
    begin = time.monotonic()
    run()
    print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
