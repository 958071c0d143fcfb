"""Brokers that are stopped with SIGSTOP and go on later, as in a long pause of a virtual machine."""
import time

from checker import Load, summary
from cluster import Cluster
from test_cluster_kill import GOES_ON, settle


def test_leader_pauses(ctx):
    """P4: another leads meanwhile; on resume the old one answers nothing out of its old epoch."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2)
    gaps = []
    with Load(c, "t", threads=2, raw=1) as load:
        for _ in range(1 if ctx.quick else 3):
            victim = c.leader("t")
            at = time.monotonic()
            victim.pause()
            load.wait_acks(50, 30)
            gaps.append(load.gap(at))
            time.sleep(2)
            victim.resume()
            settle(c, load)
    print("leader paused:", summary(gaps))
    load.check()


def test_follower_pauses(ctx):
    """P5: nobody waits for it; it catches up."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2)
    with Load(c, "t", threads=2, raw=1) as load:
        leader = c.leader("t")
        epoch = c.partition("t").epoch
        victim = next(n for n in c.running() if n is not leader)
        at = time.monotonic()
        victim.pause()
        load.wait_acks(100, GOES_ON)
        time.sleep(3)
        print("follower paused:", summary([load.gap(at)]))
        victim.resume()
        settle(c, load)
        p = c.partition("t")
        assert (p.leader, p.epoch) == (leader.id, epoch), (p, leader.id, epoch)
    load.check()


def test_all_pause(ctx):
    """C2: every timer is late when they go on."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    with Load(c, "t", threads=2, raw=1) as load:
        for node in c.nodes.values():
            node.pause()
        time.sleep(5)
        for node in c.nodes.values():
            node.resume()
        settle(c, load)
    load.check()


test_leader_pauses.any_io = test_follower_pauses.any_io = test_all_pause.any_io = True
