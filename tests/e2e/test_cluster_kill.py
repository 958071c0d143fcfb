"""Three brokers, killed and stopped under load: nothing acknowledged is lost, nothing is there twice, and the stream goes on.

How long it takes is printed, and measured in tests/bench; here only a bound far above it can fail."""
import random
import struct
import time

from checker import Load, need_confluent, summary
from cluster import Cluster, Metadata, killed_at
from harness import wait_for
from raw import Client, batch, produce_body, produce_response, string

GOES_ON = 10  # seconds until records must be acknowledged again: a bound on waiting, not a measurement


def settle(cluster, load):
    """All nodes run, all replicas are in sync, and records flow."""
    cluster.wait_formed()
    cluster.wait_in_sync(load.topic)
    load.wait_acks(20)


def healthy(ctx, cluster, seconds=60, steady=1.0):
    """By `varve cluster status`: the metadata quorum, too, is as it should be; and it stays so for longer than a leader may take a member
    for well that is gone."""
    since, last = [None], {}

    def ask():
        last["said"] = ctx.varve("cluster", "status", "-b", cluster.bootstrap, check=False)
        well = last["said"].returncode == 0
        since[0] = (since[0] or time.monotonic()) if well else None
        return well and time.monotonic() - since[0] >= steady
    try:
        wait_for("health", ask, seconds)
    except AssertionError as e:
        raise AssertionError(f"{e}: {last['said'].stdout}{last['said'].stderr}") from None


def test_leader_is_killed(ctx):
    """P1: a new leader, no failed send; the old one comes back as a follower."""
    c = Cluster(ctx)
    c.create("t", partitions=1, min_insync_replicas=2)
    gaps = []
    with Load(c, "t", threads=2, raw=1, kcat=1) as load:
        for _ in range(2 if ctx.quick else 4):
            at = killed_at(victim := c.leader("t"))
            load.wait_acks(50, GOES_ON)
            time.sleep(1)
            gaps.append(load.gap(at))
            victim.start()
            settle(c, load)
    print("leader killed:", summary(gaps))
    assert load.check() > 0


def leader_asked(client, then=None):
    """Metadata of `alone`, and `then` behind it: its leader, the answer to `then`, and how long it took until both were there."""
    at = time.monotonic()
    client.request(3, 7, struct.pack(">i", 1) + string("alone") + b"\0")
    if then:
        client.request(0, 8, then)
    leader = Metadata(client.response()).topics["alone"][0].leader
    return leader, client.response() if then else None, time.monotonic() - at


def test_who_asks_for_a_leader_holds_nobody_up(ctx):
    """A partition has lost its only replica: who asks for its leader is told a little later that there is none, for there might be one in a
    moment. Sooner when a record for another partition comes behind the question on the same connection."""
    c = Cluster(ctx)
    c.create("t", partitions=6, min_insync_replicas=2)
    c.create("alone", replicas=1)
    victim = c.leader("alone")
    for _ in range(3):  # the broker has to have seen the connection end, and the machine not to stand still
        survivor, index = next((n, i) for i in range(6) if (n := c.leader("t", i)) is not victim)
        with Client(survivor) as asking, Client(survivor) as writing:
            killed_at(victim)
            wait_for("the end to be seen", lambda: leader_asked(writing, produce_body([("t", index, batch(b"v"))]))[0] == -1)
            leader, answer, took = leader_asked(writing, produce_body([("t", index, batch(b"v"))]))
            assert leader == -1 and produce_response(answer)[0][0] == 0, (leader, answer)
            _, _, waited = leader_asked(asking)
        victim.start()
        c.wait_in_sync("t", "alone")
        print(f"with a record behind it {took * 1000:.0f} ms, alone {waited * 1000:.0f} ms")
        if took < 0.25 <= waited:
            break
    assert took < 0.25 <= waited


def test_who_leads_what_is_not_asked_for_is_shown(ctx):
    """A connection that was shown a lost broker once more is then told without it (server/api_metadata.c), but not when that is back and leads a
    partition that nobody else has: a client that asks for some topics, or for none, may use others, and would give up their leader."""
    c = Cluster(ctx)
    c.create("t", partitions=6, min_insync_replicas=2)
    c.create("alone", replicas=1)
    victim = c.leader("alone")
    asked, other = [n for n in c.nodes.values() if n is not victim]

    def of(node, topics):
        m = c.metadata(node, topics)
        return m and {p.leader for t in topics for p in m.topics[t].values()}
    for topics in ([], ["t"], ["alone"]):
        with Client(asked) as client:
            def ask(topics):
                client.request(3, 7, struct.pack(">i", len(topics)) + b"".join(map(string, topics)) + b"\0")
                return Metadata(client.response())
            killed_at(victim)
            wait_for("new leaders", lambda: (found := of(other, ["t"])) and not found & {-1, victim.id})
            ask(["t"])  # shows it once more, if that is less than two seconds ago
            victim.start()
            wait_for("it to lead", lambda: of(asked, ["alone"]) == {victim.id})
            assert victim.id in ask(topics).brokers, topics
        c.wait_in_sync("t", "alone")


def test_follower_is_killed(ctx):
    c = Cluster(ctx)
    c.create("t", partitions=2, min_insync_replicas=2)
    with Load(c, "t") as load:
        for _ in range(2):
            leader = c.leader("t", 0)
            victim = next(n for n in c.running() if n is not leader)
            killed_at(victim)
            load.wait_acks(50, GOES_ON)
            victim.start()
            settle(c, load)
    load.check()


def test_all_are_killed_at_once(ctx):
    """P2: all that was acknowledged is there after the restart, at its offset."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    with Load(c, "t") as load:
        for _ in range(1 if ctx.quick else 3):
            load.wait_acks(100)
            c.kill_all()
            c.start()
            settle(c, load)
    load.check()


def test_killed_while_recovering(ctx):
    """P3: a node that dies again and again before it is ready still gets there."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    dice = random.Random(3)
    with Load(c, "t") as load:
        victim = c.leader("t")
        killed_at(victim)
        for _ in range(8):
            victim.spawn()
            time.sleep(dice.uniform(0, 0.15))
            if victim.alive():
                victim.kill9()
            else:
                raise AssertionError(f"node {victim.id} ended by itself:\n{victim.trace()[-3000:]}")
        load.wait_acks(50, GOES_ON)
        victim.start()
        settle(c, load)
    load.check()


def test_crash_loop(ctx):
    """P6: a follower that crashes all the time disturbs nobody: the leader stays, its epoch too."""
    c = Cluster(ctx)
    c.create("t", partitions=1, min_insync_replicas=2)
    with Load(c, "t") as load:
        leader = c.leader("t")
        victim = next(n for n in c.running() if n is not leader)
        epoch = c.partition("t", but=(victim,)).epoch
        for _ in range(4):
            killed_at(victim)
            time.sleep(0.5)
            victim.start()
            load.wait_acks(20, GOES_ON)
            time.sleep(1)
        p = c.partition("t", but=(victim,))
        assert (p.leader, p.epoch) == (leader.id, epoch), (p, leader.id, epoch)
        settle(c, load)
    load.check()


def test_graceful_stop(ctx):
    """P7: SIGTERM hands leadership over first: no failed send."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    gaps = []
    with Load(c, "t") as load:
        for _ in range(1 if ctx.quick else 3):
            victim = c.leader("t")
            at = time.monotonic()
            code = victim.stop()
            assert code == 0, victim.trace()[-3000:]
            load.wait_acks(50, GOES_ON)
            gaps += [load.gap(at, partition=i) for i in range(3)]
            victim.start()
            settle(c, load)
    print("graceful stop:", summary(gaps))
    load.check()


def test_rolling_restart(ctx):
    """U1, of one version: every node in turn, under load. (kcat would give up: it waits up to ten seconds before it tries a broker again that
    has hung up, and ends when all three have.)"""
    c = Cluster(ctx)
    c.create("t", partitions=6, min_insync_replicas=2)
    with Load(c, "t", threads=2, raw=2) as load:
        for node in list(c.nodes.values()):
            assert node.stop() == 0, node.trace()[-3000:]
            load.wait_acks(30, GOES_ON)
            node.start()
            settle(c, load)
    load.check()


def test_the_controller_is_killed(ctx):
    """Topics are created with the next controller; the one that was killed learns of them."""
    c = Cluster(ctx)
    for i in range(3):
        victim = c.controller()
        killed_at(victim)
        wait_for("another controller", lambda: c.controller() is not victim and c.controller(), 20)
        ctx.varve("topic", "create", f"t{i}", "--partitions", 2, "--replication-factor", 3, "-b", c.bootstrap)
        victim.start()
        c.wait_formed()
        c.wait_in_sync(f"t{i}")


def test_minority_refuses(ctx):
    """With two of three down nothing is acknowledged; what was is there when they are back."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2)
    with Load(c, "t", threads=1, raw=1) as load:
        load.wait_acks(100)
        survivor = c.leader("t")
        for node in list(c.nodes.values()):
            if node is not survivor:
                killed_at(node)
        time.sleep(1)  # what was on its way
        before = load.acks()
        time.sleep(3)
        assert load.acks() == before, f"{load.acks() - before} records were acknowledged by one of three"
        for node in c.nodes.values():
            if not node.alive():
                node.spawn()
        settle(c, load)
    load.check()


def test_random_kills(ctx):
    """Any node at any moment, two at times; always back within seconds."""
    c = Cluster(ctx)
    c.create("t", partitions=4, min_insync_replicas=2)
    dice = random.Random(5)
    with Load(c, "t", threads=2, raw=2) as load:
        end = time.monotonic() + (10 if ctx.quick else 30)
        while time.monotonic() < end:
            for victim in dice.sample(list(c.nodes.values()), dice.choice((1, 1, 1, 2))):
                if victim.alive():
                    killed_at(victim)
            time.sleep(dice.uniform(0.1, 1.5))
            for node in c.nodes.values():
                if not node.alive():
                    node.spawn()
            time.sleep(dice.uniform(0.2, 2))
        settle(c, load)
    load.check()


for test in (test_crash_loop, test_random_kills, test_rolling_restart, test_minority_refuses):
    test.slow = test.any_io = True


def test_the_coordinator_is_killed(ctx):
    """The group goes on where it was, with all that was committed, and without a rebalance."""
    need_confluent()
    from failover import GROUP_PARTITIONS, failover
    c = Cluster(ctx, settings={"offsets.topic.num.partitions": GROUP_PARTITIONS, "group.initial.rebalance.delay.ms": 0})
    assert failover(c, "classic", 2 if ctx.quick else 5) == 0
