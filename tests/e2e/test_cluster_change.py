"""Clusters that change while they are used: partitions that move, nodes that join, leave and are drained, groups whose coordinator goes."""
import contextlib
import json
import os
import subprocess
import threading
import time

from checker import Load, confluent_kafka, need_confluent
from cluster import Cluster, killed_at
from harness import kcat, wait_for
from test_cluster_kill import GOES_ON, settle


def cli(ctx, c, *args, **kw):
    return ctx.varve(*args, "-b", c.bootstrap, **kw)


def rows(ctx, c, *args):
    return [json.loads(line) for line in cli(ctx, c, "cluster", *args, "--json").stdout.splitlines()]


def test_reassignment_under_load(ctx):
    """Partitions move to a node that joined, shrink, grow and move back while they are written."""
    c = Cluster(ctx)
    c.add(4)
    c.create("t", partitions=2, min_insync_replicas=2)
    start = {p["partition"]: p["replicas"] for p in rows(ctx, c, "partitions", "t")}
    with Load(c, "t", kcat=1) as load:
        for target in ("4,1,2", "2,4", "1,2,3", "4,3,2"):
            cli(ctx, c, "cluster", "move", "t", "--replicas", target, "--wait")
            now = rows(ctx, c, "partitions", "t")
            assert all(p["replicas"] == [int(n) for n in target.split(",")] for p in now), (target, now)
            load.wait_acks(30, GOES_ON)
        c.wait_in_sync("t")
        for index, replicas in start.items():
            cli(ctx, c, "cluster", "move", f"t:{index}", "--replicas", ",".join(map(str, replicas)), "--wait")
        settle(c, load)
    load.check()


def test_reassignment_and_a_kill(ctx):
    """N9: the leader dies while its partition moves, then the new node: either set of nodes works."""
    c = Cluster(ctx)
    c.add(4)
    c.create("t", partitions=1, min_insync_replicas=2)
    with Load(c, "t") as load:
        load.wait_acks(500)
        for first in ("leader", "new"):
            leader = c.leader("t")
            leaves = next(n for n in c.nodes.values() if n.id in c.partition("t").replicas and n is not leader)
            joins = next(n for n in c.nodes.values() if n.id not in c.partition("t").replicas)
            keep = [n for n in c.partition("t").replicas if n != leaves.id]
            cli(ctx, c, "cluster", "move", "t", "--replicas", ",".join(map(str, [*keep, joins.id])))
            victim = leader if first == "leader" else joins
            killed_at(victim)
            load.wait_acks(30, GOES_ON)
            victim.start()
            wait_for("the move to end", lambda: not any(p["adding"] or p["removing"] for p in rows(ctx, c, "partitions", "t")), 60)
            settle(c, load)
    load.check()


def test_move_is_given_up(ctx):
    c = Cluster(ctx)
    four = c.add(4)
    c.create("t", partitions=1)
    before = rows(ctx, c, "partitions", "t")[0]["replicas"]
    killed_at(four)
    cli(ctx, c, "cluster", "move", "t", "--replicas", "4,1")
    wait_for("node 4 to be seen to be down", lambda: any(n["node"] == 4 and not n["up"] for n in rows(ctx, c, "nodes")), 20)
    said = cli(ctx, c, "cluster", "explain", "t-0", check=False).stdout
    assert "node 4" in said and "--cancel" in said, said
    cli(ctx, c, "cluster", "move", "t", "--cancel")
    wait_for("the old replicas", lambda: rows(ctx, c, "partitions", "t")[0]["replicas"] == before, 30)
    c.wait_in_sync("t")


def test_from_one_to_three(ctx):
    """A node alone gets two others: they register, internal topics follow, they become voters, topics are spread; then the first one goes."""
    c = Cluster(ctx, size=1)
    kcat("-b", c.bootstrap, "-P", "-t", "old", input="".join(f"{i}\n" for i in range(100)))
    kcat("-b", c.bootstrap, "-G", "g", "-X", "auto.offset.reset=earliest", "-e", "old", check=False)
    c.add(2)
    c.add(3)
    cli(ctx, c, "cluster", "add", "2", "3")
    roles = {n["node"]: n["role"] for n in rows(ctx, c, "nodes")}
    assert set(roles) == {1, 2, 3} and "learner" not in roles.values(), roles
    wait_for("internal topics on three nodes", lambda: all(len(p["isr"]) == 3 for p in rows(ctx, c, "partitions", "__consumer_offsets")), 60)
    cli(ctx, c, "cluster", "move", "old", "--replicas", "2,3,1", "--wait")
    c.wait_in_sync()
    cli(ctx, c, "cluster", "remove", "1")
    killed_at(c.nodes[1])
    bootstrap = f"{c.nodes[2].bootstrap},{c.nodes[3].bootstrap}"
    wait_for("a leader among the others", lambda: (p := c.partition("old")) and p.leader in (2, 3), 20)
    assert kcat("-b", bootstrap, "-C", "-t", "old", "-e", "-q").stdout.split() == [str(i) for i in range(100)]
    offsets = json.loads(wait_for("the group's coordinator", lambda: (p := ctx.varve("group", "offsets", "g", "--json", "-b", bootstrap, check=False))
                                  .returncode == 0 and p.stdout, 20).splitlines()[0])
    assert "old" in json.dumps(offsets) and "100" in json.dumps(offsets), offsets


def test_group_survives_its_coordinator(ctx):
    """Members of both protocols read on when the coordinator dies; committed offsets never go back."""
    need_confluent()
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    stop = threading.Event()
    read, errors = {}, []
    lock = threading.Lock()

    def member(name):
        k = confluent_kafka.Consumer({"bootstrap.servers": c.bootstrap, "group.id": "g", "auto.offset.reset": "earliest", "log_level": 0,
                                      "session.timeout.ms": 10000, "enable.auto.commit": False})
        k.subscribe(["t"])
        try:
            while not stop.is_set():
                m = k.poll(0.2)
                if m is None:
                    continue
                if m.error():
                    if m.error().fatal():
                        errors.append(f"{name}: {m.error()}")
                        return
                    continue
                with lock:
                    read[m.value()] = read.get(m.value(), 0) + 1
                if m.offset() % 20 == 0:
                    with contextlib.suppress(confluent_kafka.KafkaException):
                        k.commit(m, asynchronous=False)
        finally:
            k.close()
    members = [threading.Thread(target=member, args=(f"m{i}",), daemon=True) for i in range(2)]
    committed, low = {}, []
    with Load(c, "t", threads=2, raw=0) as load:
        for m in members:
            m.start()
        wait_for("the members to read", lambda: len(read) > 50, 60)
        for _ in range(2 if ctx.quick else 3):
            # Who coordinates: the leader of the group's partition of __consumer_offsets.
            said = json.loads(cli(ctx, c, "group", "describe", "g", "--json").stdout.splitlines()[0])
            coordinator = said.get("coordinator")
            victim = c.nodes[coordinator["id"] if isinstance(coordinator, dict) else int(coordinator)] if coordinator is not None else c.leader("t")
            before = len(read)
            killed_at(victim)
            wait_for("the members to read on", lambda: len(read) > before + 50, 60)
            text = wait_for("committed offsets", lambda: (p := ctx.varve("group", "offsets", "g", "--json", "-b", c.bootstrap, check=False))
                            .returncode == 0 and p.stdout, 30)
            for row in map(json.loads, text.splitlines()):
                if "partition" in row and row["offset"] < committed.get(row["partition"], 0):
                    low.append((row, committed))
                if "partition" in row:
                    committed[row["partition"]] = row["offset"]
            victim.start()
            settle(c, load)
    acked = {a.value.encode() for a in load.history.acks}
    wait_for("the members to read all that was acknowledged", lambda: acked <= set(read), 60)
    stop.set()
    for m in members:
        m.join(30)
    assert not errors and not low, (errors, low)
    load.check()


def test_varve_rides_along(ctx):
    """Our own client library: a producer and a group consumer over kills of leaders, with a bootstrap list whose first is dead."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    at = ("-b", "127.0.0.1:1," + c.bootstrap)
    varve = os.path.join(ctx.bin, "varve")
    out = open(os.path.join(c.nodes[1].root, "consumed"), "w+")
    k = subprocess.Popen([varve, "consume", "t", "-G", "own", *at], stdout=out, stderr=subprocess.PIPE, text=True)
    p = subprocess.Popen([varve, "produce", "t", *at], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        sent = 0
        for round_ in range(3):
            for _ in range(100):
                p.stdin.write(f"line {sent}\n")
                p.stdin.flush()
                sent += 1
                time.sleep(0.01)
            victim = c.leader("t", round_)
            killed_at(victim)
            for _ in range(100):
                p.stdin.write(f"line {sent}\n")
                p.stdin.flush()
                sent += 1
                time.sleep(0.01)
            victim.start()
            c.wait_in_sync("t")
        hangs = c.leader("t", 0)  # closes nothing, answers nothing: the others are asked
        hangs.pause()
        for _ in range(400):
            p.stdin.write(f"line {sent}\n")
            p.stdin.flush()
            sent += 1
            time.sleep(0.01)
        _, err = p.communicate(timeout=30)
        hangs.resume()
        c.wait_in_sync("t")
        assert p.returncode == 0 and f"{sent} lines acknowledged" in err, err
        want = {f"line {i}" for i in range(sent)}
        stored = cli(ctx, c, "consume", "t", "-e").stdout.split("\n")[:-1]
        assert sorted(stored) == sorted(want), (len(stored), len(want), len(set(stored)))

        def consumed():
            out.seek(0)
            return want <= set(out.read().split("\n"))
        wait_for("the group's member to have read everything", consumed, 60)
        assert k.poll() is None, k.stderr.read()
    finally:
        for process in (p, k):
            if process.poll() is None:
                process.kill()
            process.wait()


def test_drain(ctx):
    """A drained node leads nothing, holds what it holds, and leads again when it is taken back."""
    c = Cluster(ctx)
    c.create("t", partitions=6, min_insync_replicas=2)
    with Load(c, "t") as load:
        cli(ctx, c, "cluster", "drain", "1", "--wait")
        assert all(p["leader"] != 1 for p in rows(ctx, c, "partitions", "t")), rows(ctx, c, "partitions", "t")
        c.wait_in_sync("t")
        load.wait_acks(50, GOES_ON)
        cli(ctx, c, "cluster", "drain", "1", "--cancel")
        wait_for("node 1 to lead again", lambda: any(p["leader"] == 1 for p in rows(ctx, c, "partitions", "t")), 60)
        settle(c, load)
    load.check()


def test_drain_and_forget(ctx):
    """A fourth node is emptied, stopped and forgotten, under load."""
    c = Cluster(ctx)
    c.add(4)
    c.create("t", partitions=6, min_insync_replicas=2)
    with Load(c, "t") as load:
        assert any(4 in p["replicas"] for p in rows(ctx, c, "partitions", "t"))
        cli(ctx, c, "cluster", "drain", "4", "--wait", "--timeout", 90)
        assert not any(4 in p["replicas"] for p in rows(ctx, c, "partitions")), rows(ctx, c, "partitions")
        load.wait_acks(50, GOES_ON)
        assert c.nodes[4].stop() == 0
        wait_for("the cluster to see that it is gone", lambda: any(n["node"] == 4 and not n["up"] for n in rows(ctx, c, "nodes")), 20)
        cli(ctx, c, "cluster", "remove", "4", "--forget")
        assert [n["node"] for n in rows(ctx, c, "nodes")] == [1, 2, 3]
        load.wait_acks(50, GOES_ON)
    load.check()


def test_status_tells(ctx):
    """`varve cluster status|nodes|partitions|explain` while a node is down, and a majority."""
    c = Cluster(ctx)
    c.create("t", partitions=2, min_insync_replicas=2)
    assert cli(ctx, c, "cluster", "status").stdout.splitlines()[-1] == "healthy"
    killed_at(c.nodes[3])

    def says(*words):
        p = cli(ctx, c, "cluster", "status", check=False)
        return p.returncode == 3 and all(w in p.stdout for w in words)
    wait_for("a verdict", lambda: says("node 3 down", "2 partitions under-replicated", "nodes        2 of 3 up"), 20)
    down = [n["node"] for n in rows(ctx, c, "nodes") if not n["up"]]
    assert down == [3], down
    assert {p["state"] for p in rows(ctx, c, "partitions", "--unhealthy", "t")} == {"under-replicated"}

    def explained(*words):
        p = cli(ctx, c, "cluster", "explain", "t-0", check=False)
        return p.returncode == 3 and all(w in p.stdout for w in words)
    wait_for("an explanation", lambda: explained("replica 3", "is down"), 20)
    c.nodes[3].start()
    wait_for("health", lambda: cli(ctx, c, "cluster", "status", check=False).returncode == 0, 30)
    killed_at(c.nodes[3])
    killed_at(c.nodes[2])
    wait_for("no leader", lambda: "offline" in cli(ctx, c, "cluster", "partitions", "t", check=False).stdout, 20)
    wait_for("an explanation", lambda: explained("2 must be up"), 20)
    p = cli(ctx, c, "cluster", "status", check=False)
    assert p.returncode == 3 and "without a leader" in p.stdout, p


def test_kcat_sees_the_cluster(ctx):
    """The list of brokers, a topic's replicas, and both directions through any broker."""
    c = Cluster(ctx)
    c.create("t", partitions=3)
    for node in c.nodes.values():
        said = json.loads(kcat("-b", node.bootstrap, "-L", "-J").stdout)
        assert sorted(b["id"] for b in said["brokers"]) == [1, 2, 3], said
        topic = next(t for t in said["topics"] if t["topic"] == "t")
        assert all(len(p["replicas"]) == len(p["isrs"]) == 3 for p in topic["partitions"]), topic
        kcat("-b", node.bootstrap, "-P", "-t", "t", input=f"from {node.id}\n")
    got = kcat("-b", c.nodes[2].bootstrap, "-C", "-t", "t", "-e", "-q").stdout.split("\n")
    assert sorted(got[:-1]) == ["from 1", "from 2", "from 3"], got


def test_a_foreign_node_is_refused(ctx):
    """A node of another cluster does not join, and says why."""
    a, b = Cluster(ctx), Cluster(ctx, size=1)
    stranger = b.nodes[1]
    assert stranger.stop() == 0
    stranger.extra = {"controller.quorum.bootstrap.servers": f"127.0.0.1:{a.nodes[1].peer_port}"}
    stranger.id = 9
    stranger.spawn()

    def told():
        return "cluster" in stranger.trace(stranger.log_start).lower() and any(
            w in stranger.trace(stranger.log_start) + a.nodes[1].trace() for w in ("foreign", "another cluster", "other cluster", "cluster id", "node 1"))
    wait_for("a clear line", lambda: told() or not stranger.alive(), 20)
    time.sleep(1)
    assert set(a.any_metadata([]).brokers) == {1, 2, 3}


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = True
test_from_one_to_three.slow = test_group_survives_its_coordinator.slow = test_varve_rides_along.slow = True
