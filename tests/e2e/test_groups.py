"""Consumer groups: members of several kinds that come, go and are killed; the broker too. Every record is processed, by one
member at a time after a clean hand-over, and what is committed never goes back. And what `varve group` does to groups."""
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

from harness import Skip, wait_for

FAST = {"group.initial.rebalance.delay.ms": 0, "group.min.session.timeout.ms": 100, "offsets.topic.num.partitions": 4,
        "group.consumer.heartbeat.interval.ms": 200, "group.consumer.assignment.interval.ms": 0}
PARTITIONS = 6


class Member:
    """A process that prints "PARTITION OFFSET VALUE" lines."""

    def __init__(self, command):
        self.out = tempfile.NamedTemporaryFile("w+", prefix="varve-member.")
        self.err = tempfile.NamedTemporaryFile("w+", prefix="varve-member.")
        self.process = subprocess.Popen(command, stdout=self.out, stderr=self.err)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.trace()

    def rows(self):
        with open(self.out.name) as f:
            text = f.read()
        rows = [line.split(" ") for line in text[:text.rfind("\n") + 1].splitlines()]
        return [(int(r[0]), int(r[1]), r[2]) for r in rows]

    def values(self):
        return [r[2] for r in self.rows()]

    def trace(self):
        with open(self.err.name) as f:
            return f.read()


def varve_member(ctx, b, *options, group="g", topic="t"):
    return Member([os.path.join(ctx.bin, "varve"), "consume", "-G", group, "-b", b.bootstrap, "-f", "%p %o %s\\n",
                   "--session-timeout", "1500", *options, topic])


def kcat_member(b, *options, group="g", topic="t"):
    return Member(["kcat", "-b", b.bootstrap, "-G", group, "-u", "-f", "%p %o %s\\n", "-X", "auto.offset.reset=earliest", "-X",
                   "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=200", "-X", "auto.commit.interval.ms=200", "-X", "log_level=0",
                   *options, topic])


class Feed:
    """Numbered records, some hundred a second, until stopped; `sent` counts those that were acknowledged."""

    def __init__(self, ctx, b, topic="t"):
        self.process = subprocess.Popen([os.path.join(ctx.bin, "varve"), "produce", topic, "-q", "-b", b.bootstrap],
                                        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.sent = 0
        self.going = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.going:
            for _ in range(5):
                self.process.stdin.write(f"r{self.sent}\n")
                self.sent += 1
            self.process.stdin.flush()
            time.sleep(0.01)

    def stop(self):
        self.going = False
        self.thread.join()
        err = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == 0, err
        return {f"r{i}" for i in range(self.sent)}


def offsets(ctx, b, group="g"):
    rows = [json.loads(line) for line in ctx.varve("group", "offsets", group, "--json", "-b", b.bootstrap).stdout.splitlines()]
    return {(r["topic"], r["partition"]): r["offset"] for r in rows}


def describe(ctx, b, group="g"):
    return json.loads(ctx.varve("group", "describe", group, "--json", "-b", b.bootstrap).stdout)


def described(ctx, b):
    p = ctx.varve("group", "describe", "g", "--json", "-b", b.bootstrap, check=False)
    return json.loads(p.stdout)["partitions"] if p.returncode == 0 else []


def make_topic(ctx, b, topic="t", partitions=PARTITIONS):
    ctx.varve("topic", "create", topic, "--partitions", partitions, "-b", b.bootstrap)


def seen(*members):
    return set().union(*(m.values() for m in members))


def never_back(before, after):
    for part, offset in before.items():
        assert after.get(part, -1) >= offset, f"{part}: {offset} was committed, now {after.get(part)}"
    return after


def test_members_come_go_and_are_killed(ctx):
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b)
    feed = Feed(ctx, b)
    members = [kcat_member(b), varve_member(ctx, b, "--group-protocol", "classic")]
    try:
        wait_for("both to read", lambda: all(m.rows() for m in members))
        state = never_back({}, offsets(ctx, b))
        members[0].kill()
        members.append(kcat_member(b))
        wait_for("the third to read", lambda: members[2].rows())
        state = never_back(state, offsets(ctx, b))
        b.kill9()
        b.start()
        members[2].process.wait(60)  # kcat ends when all of its brokers are down
        members.append(kcat_member(b))
        size = len(members[1].rows())
        wait_for("both to go on", lambda: len(members[1].rows()) > size and members[3].rows(), 60)
        state = never_back(state, offsets(ctx, b))
        members[1].stop()
        members.append(varve_member(ctx, b, "--group-protocol", "classic"))
        wait_for("the fifth to read", lambda: members[4].rows())
        state = never_back(state, offsets(ctx, b))
        members[3].kill()
        sent = feed.stop()
        wait_for("every record", lambda: seen(*members) >= sent, 60)
        members[4].stop()
        never_back(state, offsets(ctx, b))
    finally:
        feed.going = False
        for m in members:
            m.kill()


def test_clean_hand_overs_repeat_nothing(ctx):
    for options in (["--assignor", "range"], ["--assignor", "cooperative-sticky"], []):
        b = ctx.broker(settings=FAST)
        make_topic(ctx, b)
        feed = Feed(ctx, b)
        members = [varve_member(ctx, b, *options)]
        try:
            wait_for("the first to read", lambda: members[0].rows())
            members.append(varve_member(ctx, b, *options))
            wait_for("the second to read", lambda: members[1].rows())
            members[0].stop()
            at = len(members[1].rows())
            wait_for("all partitions", lambda: {r[0] for r in members[1].rows()[at:]} == set(range(PARTITIONS)))
            sent = feed.stop()
            wait_for("every record", lambda: seen(*members) >= sent)
            members[1].stop()
            everything = members[0].values() + members[1].values()
            assert len(everything) == len(sent), f"{len(everything) - len(sent)} records were processed twice ({options})"
        finally:
            feed.going = False
            for m in members:
                m.kill()
        b.destroy()


def test_static_member_comes_back_to_its_partitions(ctx):
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b)
    options = ["--group-protocol", "classic", "--session-timeout", "30000"]
    one = varve_member(ctx, b, *options, "--instance-id", "one")
    two = varve_member(ctx, b, *options, "--instance-id", "two")
    members = [one, two]
    try:
        def shared():
            owners = {p["partition"]: p["member"] for p in described(ctx, b)}
            return owners if len(owners) == PARTITIONS and None not in owners.values() and len(set(owners.values())) == 2 else None
        held = {p for p, member in wait_for("both to share", shared).items() if member.startswith("one")}
        wait_for("both to know", lambda: all("assigned: t" in m.trace().splitlines()[-1] for m in members))
        generations = two.trace().count("rebalanced")
        one.stop()
        members.append(varve_member(ctx, b, *options, "--instance-id", "one"))
        wait_for("it to be back", lambda: "assigned: t" in members[2].trace())
        assert {p["partition"] for p in described(ctx, b) if p["member"].startswith("one")} == held
        assert two.trace().count("rebalanced") == generations, two.trace()
        # A second one of the same name takes over; the first is told.
        members.append(varve_member(ctx, b, *options, "--instance-id", "one"))
        assert members[2].process.wait(30) == 1
        assert 'another member has the instance id "one"' in members[2].trace(), members[2].trace()
    finally:
        for m in members:
            m.kill()


def test_assignors_that_members_have_in_common(ctx):
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b)
    members = [kcat_member(b, "-X", "partition.assignment.strategy=roundrobin,range"), varve_member(ctx, b, "--assignor", "range,cooperative-sticky")]
    try:
        wait_for("both to share", lambda: len({p["member"] for p in described(ctx, b)} - {None}) == 2)
        assert describe(ctx, b)["assignor"] == "range"
        odd = ctx.varve("consume", "-G", "g", "t", "--assignor", "cooperative-sticky", "-b", b.bootstrap, check=False)
        assert odd.returncode == 1 and "INCONSISTENT_GROUP_PROTOCOL" in odd.stderr, odd.stderr
    finally:
        for m in members:
            m.kill()


def test_confluent_kafka_cooperates(ctx):
    try:
        from confluent_kafka import Consumer
    except ImportError as e:
        raise Skip(f"confluent_kafka: {e}")
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b)
    ctx.varve("produce", "t", "-q", "-b", b.bootstrap, input="".join(f"r{i}\n" for i in range(200)))
    owned, got = {}, []
    consumers = []

    def member(name):
        c = Consumer({"bootstrap.servers": b.bootstrap, "group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False,
                      "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": 6000, "heartbeat.interval.ms": 100})
        owned[name] = set()

        def on_assign(consumer, parts):
            for p in parts:
                assert all(p.partition not in o for o in owned.values()), f"partition {p.partition} has two owners"
                owned[name].add(p.partition)
            consumer.incremental_assign(parts)

        def on_revoke(consumer, parts):
            for p in parts:
                owned[name].discard(p.partition)
            consumer.incremental_unassign(parts)
        c.subscribe(["t"], on_assign=on_assign, on_revoke=on_revoke)
        consumers.append(c)

    def poll():
        for c in consumers:
            for m in c.consume(50, 0.02):
                if not m.error():
                    got.append(m.value().decode())
                    c.commit(m, asynchronous=True)
        return False

    member("a")
    wait_for("one owner of all", lambda: poll() or len(owned["a"]) == PARTITIONS)
    member("b")
    wait_for("two that share", lambda: poll() or [len(o) for o in owned.values()] == [3, 3])
    wait_for("every record", lambda: poll() or set(got) == {f"r{i}" for i in range(200)}, 60)
    for c in consumers:
        c.close()


def test_group_commands(ctx):
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b, "t", 2)
    make_topic(ctx, b, "u", 1)
    at = ["-b", b.bootstrap]
    for topic in ["t", "u"]:
        ctx.varve("produce", topic, "-q", "-p", 0, *at, input="".join(f"{i}\n" for i in range(10)))
    middle = int(time.time() * 1000) + 2
    time.sleep(0.01)  # the clock must have moved on
    ctx.varve("produce", "t", "-q", "-p", 0, *at, input="".join(f"{i}\n" for i in range(10)))
    assert ctx.varve("consume", "-G", "g", "t", "u", "-e", "-q", "--group-protocol", "classic", *at).stdout.count("\n") == 30
    assert ctx.varve("group", "list", *at).stdout.split("\n")[1].split() == ["g", "classic", "consumer", "Empty"]
    assert ctx.varve("group", "list", "--state", "Stable", "--json", *at).stdout == ""

    def seek(*args, check=True):
        return ctx.varve("group", "seek", "g", *args, *at, check=check)

    def now():
        return [v for k, v in sorted(offsets(ctx, b).items())]
    assert now() == [20, 0, 10]
    said = seek("--to", "earliest", "--topic", "t")
    assert said.stdout.splitlines()[1].split() == ["g", "t", "0", "20", "0"] and "--execute" in said.stderr, said
    assert now() == [20, 0, 10], "a dry run has changed something"
    for where, topics, expected in [
            ("earliest", ["t:0"], [0, 0, 10]), ("+5", ["t"], [5, 0, 10]), ("-2", ["t:0", "u"], [3, 0, 8]), ("latest", ["t"], [20, 0, 8]),
            (f"@{middle}", ["t:0,1"], [10, 0, 8]), ("4", ["t", "u"], [4, 0, 4]), ("PT1H", ["u"], [4, 0, 0]), ("current", ["t:0"], [4, 0, 0]),
            ("2020-01-01T00:00:00.000", ["t"], [0, 0, 0]), ("99", ["t"], [20, 0, 0])]:
        seek("--to", where, *[a for t in topics for a in ("--topic", t)], "--execute")
        assert now() == expected, (where, topics, now())
    exported = seek("--to", "7", "--all-topics", "--export").stdout
    assert exported == "t,0,7\nt,1,0\nu,0,7\n"
    with tempfile.NamedTemporaryFile("w") as f:
        f.write(exported)
        f.flush()
        seek("--from-file", f.name, "--execute")
    assert now() == [7, 0, 7]
    for wrong in (["--to", "soon", "--topic", "t"], ["--to", "1"], ["--to", "1", "--topic", "t", "--all-topics"], ["--topic", "t"],
                  ["--to", "1", "--topic", "t:x"]):
        assert seek(*wrong, check=False).returncode == 2, wrong
    assert seek("--to", "1", "--topic", "t:2", check=False).returncode == 1
    d = describe(ctx, b)
    assert [(p["topic"], p["partition"], p["offset"], p["end"], p["lag"]) for p in d["partitions"]] == \
        [("t", 0, 7, 20, 13), ("t", 1, 0, 0, 0), ("u", 0, 7, 10, 3)], d
    seconds = [p["lag_seconds"] for p in d["partitions"]]
    assert 0 < seconds[0] < 600 and seconds[1] == 0 and 0 < seconds[2] < 600, seconds
    head = ctx.varve("group", "describe", "g", *at).stdout.splitlines()[1].split()
    assert head[:9] == "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID".split(), head
    member = varve_member(ctx, b, "--group-protocol", "classic")
    try:
        wait_for("a member", lambda: describe(ctx, b)["members"] == 1)
        refused = seek("--to", "0", "--topic", "t", "--execute", check=False)
        assert refused.returncode == 1 and "1 member" in refused.stderr, refused
        refused = ctx.varve("group", "delete", "g", *at, check=False)
        assert refused.returncode == 1 and "NON_EMPTY_GROUP" in refused.stderr, refused
        row = wait_for("its partitions", lambda: [r for r in ctx.varve("group", "members", "g", *at).stdout.splitlines()[1:] if "t:0,1" in r])
        assert row[0].split()[0] == "g"
    finally:
        member.stop()
    ctx.varve("group", "delete", "g", "--topic", "u", *at)
    assert ("u", 0) not in offsets(ctx, b)
    ctx.varve("group", "delete", "g", *at)
    assert ctx.varve("group", "describe", "g", *at, check=False).returncode == 1
    # What all that left in the topic is Kafka's records, in words.
    assert b.stop() == 0
    dumped = ""
    for i in range(4):
        folder = os.path.join(b.data, f"__consumer_offsets-{i}")
        if os.path.isdir(folder):
            dumped += ctx.varve("dump", "--records", folder).stdout
        else:
            missing = ctx.varve("dump", "--records", folder, check=False)
            assert missing.returncode == 1 and "never had records has no folder" in missing.stderr, missing.stderr
    assert 'key: {"type":"1","data":{"group":"g","topic":"t","partition":0}} payload: {"version":' in dumped
    assert 'key: {"type":"1","data":{"group":"g","topic":"u","partition":0}} payload: <DELETE>' in dumped


def test_explain(ctx):
    b = ctx.broker(settings=FAST)
    make_topic(ctx, b, "t", 4)
    for protocol in ["classic", "consumer"]:
        def settled(*partitions):
            """What is said when the members have so many partitions and no rebalance is going on."""
            p = ctx.varve("group", "explain", protocol, "--json", "-b", b.bootstrap, check=False)
            assert p.returncode == 0 or "GROUP_ID_NOT_FOUND" in p.stderr, (p.returncode, p.stderr, p.stdout)
            e = json.loads(p.stdout) if p.returncode == 0 else None
            done = e and e["rebalances"] and e["rebalances"][-1]["elapsed_ms"] is not None
            return e["rebalances"] if done and [m["partitions"] for m in e["members"]] == list(partitions) else None
        members = [varve_member(ctx, b, "--group-protocol", protocol, "--session-timeout", "20000", group=protocol)]
        try:
            rows = wait_for("one member", lambda: settled(4))
            assert rows[0]["cause"] == "joined" and rows[-1]["members"] == 1, rows
            members.append(varve_member(ctx, b, "--group-protocol", protocol, "--session-timeout", "20000", group=protocol))
            more = wait_for("two members", lambda: settled(2, 2))
            assert "joined" in [r["cause"] for r in more[len(rows):]] and more[-1]["members"] == 2, more
            assert [r["epoch"] for r in more] == sorted(r["epoch"] for r in more) and all(r["last_member"] for r in more), more
            members[1].stop()
            rest = wait_for("one is left", lambda: settled(4))
            assert "left" in [r["cause"] for r in rest[len(more):]], (more, rest)
            text = ctx.varve("group", "explain", protocol, "-b", b.bootstrap).stdout
            assert " left" in text and " joined" in text and "up to date" in text, text
        finally:
            for m in members:
                m.kill()
    assert ctx.varve("group", "explain", "nobody", "-b", b.bootstrap, check=False).returncode == 1
