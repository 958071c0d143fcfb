"""How brokers come to be a cluster, join one, and are told that they cannot; who votes for the metadata log."""
import json
import shutil

from cluster import Cluster
from harness import free_port, kcat, wait_for


def ends(broker, seconds=30):
    """The exit code and what was said, of a broker that gives up."""
    broker.spawn()
    return broker.process.wait(seconds), broker.trace(broker.log_start)


def voters(ctx, c):
    status = json.loads(ctx.varve("cluster", "status", "--json", "-b", c.bootstrap, check=False).stdout or "{}")
    return sorted(m["node"] for m in status.get("voters", []))


def test_formed_by_all_voters(ctx):
    """Two of three listed voters wait, and say for whom; with the third they are a cluster."""
    c = Cluster(ctx, start=False)
    for i in (1, 3):
        c.nodes[i].spawn()
    for i in (1, 3):
        wait_for("what it waits for", lambda n=c.nodes[i]: "belongs to no cluster yet; waiting" in n.trace(), 30)
        assert f"2@127.0.0.1:{c.nodes[2].peer_port}" in c.nodes[i].trace()
        assert "ready: listening" not in c.nodes[i].trace()
    c.start()
    assert len({c.metadata(n).cluster_id for n in c.running()}) == 1


def test_stopped_while_it_waits(ctx):
    """SIGTERM ends a broker that has not found its cluster, and one that has no majority."""
    c = Cluster(ctx, start=False)
    c.nodes[1].spawn()
    wait_for("its question", lambda: "recovery:" in c.nodes[1].trace(), 30)
    assert c.nodes[1].stop() == 0
    c.start()
    c.kill_all()
    c.nodes[1].spawn()
    wait_for("what it waits for", lambda: "waiting for a majority" in c.nodes[1].trace(c.nodes[1].log_start), 30)
    assert "ready: listening" not in c.nodes[1].trace(c.nodes[1].log_start)
    assert c.nodes[1].stop() == 0
    c.start()


def test_two_brokers_with_one_id(ctx):
    """U2: the second is refused, and ends with a sentence; the cluster goes on."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2)
    second = ctx.broker(start=False, settings={
        "node.id": 3, "peer.listen": f"127.0.0.1:{free_port()}",
        "controller.quorum.bootstrap.servers": ",".join(f"127.0.0.1:{n.peer_port}" for n in c.nodes.values())})
    code, said = ends(second)
    assert code != 0 and "node.id of its own" in said, said
    c.wait_formed()
    c.wait_in_sync("t")
    assert c.metadata(c.nodes[1]).brokers[3] == c.nodes[3].address


def test_members_need_their_listener(ctx):
    """A directory of a cluster, started as if it was alone, is not served."""
    c = Cluster(ctx)
    for n in c.nodes.values():
        assert n.stop() == 0
    alone = ctx.broker(start=False, data=c.nodes[2].data, settings={"node.id": 2})
    code, said = ends(alone)
    assert code != 0 and "peer.listen" in said, said
    c.start()


def test_alone_then_joined(ctx):
    """A broker that was used alone gets a peer listener; another one joins, and votes when it is told to."""
    first = ctx.broker(settings={"node.id": 1})
    ctx.varve("topic", "create", "old", "--partitions", 2, "-b", first.bootstrap)
    kcat("-P", "-t", "old", "-b", first.bootstrap, input="\n".join(map(str, range(100))) + "\n")
    assert first.stop() == 0
    c = Cluster(ctx, size=1, start=False)
    node = c.nodes[1]
    node.data, node.extra = first.data, {"peer.listen": f"127.0.0.1:{node.peer_port}"}
    c.start()
    c.add(2)
    assert voters(ctx, c) == [1]
    assert len(kcat("-C", "-t", "old", "-e", "-q", "-b", c.nodes[2].bootstrap).stdout.split()) == 100
    ctx.varve("cluster", "add", 2, "-b", c.nodes[2].bootstrap)
    assert voters(ctx, c) == [1, 2]
    ctx.varve("cluster", "remove", 1, "-b", c.nodes[1].bootstrap)
    wait_for("node 2 to lead", lambda: c.controller().id == 2, 30)
    assert voters(ctx, c) == [2]


def test_a_broker_is_forgotten(ctx):
    """Only when it is down, votes no more and has no replicas; it may come back."""
    c = Cluster(ctx)
    four = c.add(4)
    refused = ctx.varve("cluster", "remove", 4, "--forget", "-b", c.nodes[1].bootstrap, check=False)
    assert refused.returncode != 0 and "running" in refused.stderr
    assert four.stop() == 0
    wait_for("it to be down", lambda: ctx.varve("cluster", "remove", 4, "--forget", "-b", c.nodes[1].bootstrap, check=False).returncode == 0, 30)
    c.wait_formed()
    assert json.loads(ctx.varve("cluster", "status", "--json", "-b", c.nodes[1].bootstrap).stdout)
    four.spawn()
    c.wait_formed()


def test_a_voter_that_lost_its_disk(ctx):
    """D16: it cannot vote, is taken in again by itself, and votes when it has caught up."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    kcat("-P", "-t", "t", "-X", "acks=all", "-b", c.bootstrap, input="\n".join(map(str, range(3000))) + "\n")
    for node in list(c.nodes.values()):
        node.kill9()
        node.wipe()
        node.spawn()
        c.wait_formed()
        c.wait_in_sync()
        wait_for("three voters", lambda: voters(ctx, c) == [1, 2, 3], 60)
    assert len(kcat("-C", "-t", "t", "-e", "-q", "-b", c.bootstrap).stdout.split()) == 3000


def test_a_directory_with_a_cluster_of_its_own(ctx):
    """Told to join another cluster it does not start, and says why; it serves what it has when it is told of nobody."""
    c = Cluster(ctx)
    own = ctx.broker(settings={"node.id": 4})
    ctx.varve("topic", "create", "old", "-b", own.bootstrap)
    assert own.stop() == 0
    peers = ",".join(f"127.0.0.1:{n.peer_port}" for n in c.nodes.values())
    listen = f"127.0.0.1:{free_port()}"
    own.settings.update({"peer.listen": listen, "controller.quorum.bootstrap.servers": peers})
    code, said = ends(own)
    assert code != 0 and "has a cluster of its own" in said and "empty data directory" in said, said
    assert "ready: listening" not in said
    own.settings["controller.quorum.bootstrap.servers"] = f"{listen},127.0.0.1:{free_port()}"  # itself, nobody
    own.spawn()
    wait_for("it to serve its own", lambda: "ready: listening" in own.trace(own.log_start), 30)
    assert "WARN  peer: 127.0.0.1:" not in own.trace(own.log_start), own.trace(own.log_start)
    assert own.stop() == 0
    c.wait_formed()


def test_a_copied_directory(ctx):
    """The copy of a running broker's directory has its identity: it is refused, and the one that runs does not notice."""
    c = Cluster(ctx, settings={"auto.leader.rebalance.enable": "false"})
    c.create("t", partitions=3, min_insync_replicas=2)
    three = c.nodes[3]
    assert three.stop() == 0
    copy = ctx.broker(start=False, settings={"node.id": 3, **c.settings_of(three), "peer.listen": f"127.0.0.1:{free_port()}"})
    shutil.rmtree(copy.data, ignore_errors=True)
    shutil.copytree(three.data, copy.data)
    three.spawn()
    c.wait_formed()
    c.wait_in_sync("t")
    at = three.log_start + len(three.trace(three.log_start))
    epochs = {i: p.epoch for i, p in c.metadata(three).topics["t"].items()}
    code, said = ends(copy)
    assert code != 0 and "node.id of its own" in said, said
    assert "not reached" not in three.trace(at), three.trace(at)
    assert {i: p.epoch for i, p in c.metadata(three).topics["t"].items()} == epochs
    c.wait_in_sync("t")
