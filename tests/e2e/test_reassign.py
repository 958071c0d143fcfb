"""Replicas that move, come and go while clients write; brokers that join, are drained, lose their disk; who leads."""
import json
import struct
import time

from checker import Load
from cluster import Cluster, call
from harness import wait_for
from raw import Reader, string


def partitions(cluster, topic):
    m = cluster.any_metadata([topic])
    return m.topics.get(topic, {}) if m else {}


def replicas_of(cluster, topic):
    return {i: p.replicas for i, p in partitions(cluster, topic).items()}


def leaders_of(cluster, topic):
    return {i: p.leader for i, p in partitions(cluster, topic).items()}


def preferred_lead(cluster, topic):
    found = partitions(cluster, topic)
    return found and all(p.leader == p.replicas[0] and sorted(p.isr) == sorted(p.replicas) for p in found.values())


def elect(node, topic, indexes):
    """ElectLeaders 1, preferred: {index: error}."""
    body = struct.pack(">b", 0) + struct.pack(">i", 1) + string(topic) + struct.pack(f">i{len(indexes)}i", len(indexes), *indexes)
    r = Reader(call(node.address, 43, 1, body + struct.pack(">i", 10000), 15))
    r.get("ii")
    assert r.get("h") == 0
    out = {}
    for _ in range(r.get("i")):
        r.string()
        for _ in range(r.get("i")):
            index, error = r.get("ih")
            r.string()
            out[index] = error
    return out


def test_replicas_move_under_load(ctx):
    cluster = Cluster(ctx, 3)
    cluster.add(4)
    at = ("-b", cluster.bootstrap)
    cluster.create("t", 3)
    with Load(cluster, "t") as load:
        ctx.varve("cluster", "move", "t", "--replicas", "4,2,3", "--wait", "--timeout", 60, *at)
        assert all(r == [4, 2, 3] for r in replicas_of(cluster, "t").values()), replicas_of(cluster, "t")
        load.wait_acks(100)
        ctx.varve("cluster", "move", "t:0", "--replicas", "1,2", "--wait", "--timeout", 60, *at)  # back, and fewer
        ctx.varve("cluster", "move", "t:1", "--replicas", "4,3,2,1", "--wait", "--timeout", 60, *at)
        load.wait_acks(100)
        found = replicas_of(cluster, "t")
        assert found[0] == [1, 2] and found[1] == [4, 3, 2, 1], found
        wait_for("the preferred replicas to lead", lambda: preferred_lead(cluster, "t"), 30)
    load.check()


def test_a_move_that_cannot_end_is_cancelled(ctx):
    cluster = Cluster(ctx, 3)
    cluster.add(4)
    at = ("-b", cluster.bootstrap)
    cluster.create("t", 1)
    before = replicas_of(cluster, "t")[0]
    with Load(cluster, "t") as load:
        cluster.nodes[4].kill9()
        ctx.varve("cluster", "move", "t-0", "--replicas", f"4,{before[0]},{before[1]}", *at)
        load.wait_acks(50)
        assert sorted(replicas_of(cluster, "t")[0]) == [1, 2, 3, 4]
        ctx.varve("cluster", "move", "t-0", "--cancel", *at)
        wait_for("the replicas from before", lambda: sorted(replicas_of(cluster, "t")[0]) == [1, 2, 3], 30)
        cluster.nodes[4].spawn()
        cluster.wait_formed()
        load.wait_acks(50)
    cluster.wait_in_sync("t")
    load.check()


def test_internal_topics_follow_from_one_node_to_three(ctx):
    cluster = Cluster(ctx, 1, settings={"offsets.topic.num.partitions": 6})
    ctx.varve("topic", "create", "t", "-b", cluster.bootstrap)
    ctx.varve("group", "list", "-b", cluster.bootstrap)
    body = struct.pack(">h", 1) + b"g" + b"\0"
    wait_for("a coordinator", lambda: struct.unpack_from(">h", call(cluster.nodes[1].address, 10, 1, body), 8)[0] == 0, 30)
    assert all(r == [1] for r in replicas_of(cluster, "__consumer_offsets").values())
    cluster.add(2)
    wait_for("two replicas", lambda: all(sorted(r) == [1, 2] for r in replicas_of(cluster, "__consumer_offsets").values()), 30)
    cluster.add(3)

    def spread():
        found = replicas_of(cluster, "__consumer_offsets").values()
        lead = sorted(leaders_of(cluster, "__consumer_offsets").values())
        return all(sorted(r) == [1, 2, 3] for r in found) and lead == [1, 1, 2, 2, 3, 3]
    wait_for("three replicas, led by all", spread, 30)
    cluster.wait_in_sync("__consumer_offsets")
    wait_for("min.insync.replicas to follow", lambda: "min.insync.replicas=2" in ctx.varve(
        "topic", "describe", "__consumer_offsets", "-b", cluster.bootstrap).stdout, 30)
    cluster.nodes[2].kill9()  # and it is of use
    wait_for("leaders", lambda: all(p.leader in (1, 3) for p in partitions(cluster, "__consumer_offsets").values()), 30)


def test_a_drained_node_is_empty(ctx):
    cluster = Cluster(ctx, 3)
    cluster.add(4)
    at = ("-b", cluster.bootstrap)
    cluster.create("t", 8)
    with Load(cluster, "t") as load:
        ctx.varve("cluster", "drain", 2, "--wait", "--timeout", 60, *at)
        assert not any(2 in r for r in replicas_of(cluster, "t").values()), replicas_of(cluster, "t")
        cluster.create("u", 4)
        assert not any(2 in r for r in replicas_of(cluster, "u").values())
        load.wait_acks(50)
        ctx.varve("cluster", "drain", 2, "--cancel", *at)
        cluster.create("v", 4)
        assert any(2 in r for r in replicas_of(cluster, "v").values())
    load.check()


def test_a_lost_disk_comes_back_by_itself(ctx):
    cluster = Cluster(ctx, 3)
    cluster.create("t", 6)
    with Load(cluster, "t") as load:
        for node_id in (3, 1):
            node = cluster.nodes[node_id]
            node.kill9()
            node.wipe()
            load.wait_acks(50)
            node.spawn()
            cluster.wait_formed()
            cluster.wait_in_sync("t")
            voters = lambda: json.loads(ctx.varve("cluster", "status", "--json", "-b", cluster.bootstrap).stdout)  # noqa: E731
            wait_for("a healthy cluster", lambda: voters()["healthy"] and sorted(v["node"] for v in voters()["voters"]) == [1, 2, 3], 30)
        load.wait_acks(50)
    load.check()


def test_leadership_returns(ctx):
    cluster = Cluster(ctx, 3)
    cluster.create("t", 6)
    wait_for("the preferred replicas to lead", lambda: preferred_lead(cluster, "t"), 30)
    cluster.nodes[2].kill9()
    wait_for("others to lead", lambda: all(v in (1, 3) for v in leaders_of(cluster, "t").values()), 30)
    cluster.nodes[2].spawn()
    cluster.wait_formed()
    wait_for("the preferred replicas to lead", lambda: preferred_lead(cluster, "t"), 30)


def test_elections_on_request(ctx):
    cluster = Cluster(ctx, 3, settings={"auto.leader.rebalance.enable": "false"})
    cluster.create("t", 6)
    cluster.nodes[2].kill9()
    wait_for("others to lead", lambda: all(v in (1, 3) for v in leaders_of(cluster, "t").values()), 30)
    mine = sorted(i for i, r in replicas_of(cluster, "t").items() if r[0] == 2)
    assert elect(cluster.nodes[1], "t", mine) == {i: 80 for i in mine}  # PREFERRED_LEADER_NOT_AVAILABLE
    cluster.nodes[2].spawn()
    cluster.wait_formed()
    cluster.wait_in_sync("t")
    time.sleep(3)
    assert all(leaders_of(cluster, "t")[i] != 2 for i in mine)
    for node in cluster.nodes.values():
        assert elect(node, "t", [99]) == {99: 3}
    said = elect(cluster.nodes[3], "t", mine)
    assert said == {i: 0 for i in mine}, said
    wait_for("the elected ones to lead", lambda: all(leaders_of(cluster, "t")[i] == 2 for i in mine), 10)
    said = elect(cluster.nodes[1], "t", mine)
    assert said == {i: 84 for i in mine}, said  # ELECTION_NOT_NEEDED


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = True
