"""What happens to the disk of one of three brokers: wiped, full, slow, failing."""
import contextlib
import errno
import os
import shutil
import time

from checker import Load, summary
from cluster import Cluster, killed_at
from harness import Skip, wait_for
from test_cluster_kill import GOES_ON, healthy, settle
from test_limits import file_system, hog


def same_copies(ctx, c):
    """Stops all cleanly: the copies are byte for byte the same, and sound."""
    c.wait_in_sync()
    for node in c.nodes.values():
        assert node.stop() == 0, node.trace()[-3000:]
    first, *rest = c.nodes.values()
    for node in rest:
        p = ctx.varve("dump", "--compare", first.data, node.data, check=False)
        assert p.returncode == 0, p.stdout + p.stderr
    for node in c.nodes.values():
        p = ctx.varve("dump", "--verify", node.data, check=False)
        assert p.returncode == 0, p.stdout + p.stderr


def test_wiped_disk(ctx):
    """D16: a node comes back with an empty disk: it has no vote, learns everything, and full redundancy is restored by itself."""
    c = Cluster(ctx)
    c.create("t", partitions=3, min_insync_replicas=2)
    with Load(c, "t") as load:
        victim = c.leader("t")
        killed_at(victim)
        victim.wipe()
        load.wait_acks(50, GOES_ON)
        victim.start()
        settle(c, load)
        healthy(ctx, c)
        other = c.leader("t")  # the new copy counts: one of the old ones may go
        killed_at(next(n for n in c.running() if n is not victim and n is not other))
        load.wait_acks(50, GOES_ON)
        for node in c.nodes.values():
            if not node.alive():
                node.start()
        settle(c, load)
    load.check()
    same_copies(ctx, c)


def test_each_disk_is_wiped_in_turn(ctx):
    """At the end no disk has survived, and every record has."""
    c = Cluster(ctx)
    c.create("t", partitions=2, min_insync_replicas=2)
    with Load(c, "t") as load:
        for node in list(c.nodes.values()):
            killed_at(node)
            node.wipe()
            load.wait_acks(30, GOES_ON)
            node.start()
            settle(c, load)
            c.wait_in_sync()
            healthy(ctx, c)  # or the majority of a partition's disks would be lost
    load.check()
    same_copies(ctx, c)


def full_disk(ctx, of_leader):
    c = Cluster(ctx, start=False)
    node = c.nodes[1]
    with file_system(node.root, 192) as at:
        node.data = os.path.join(at, "data")
        node.extra = {"disk.reserve.bytes": 16 << 20, "journal.bytes": 32 << 20}
        try:
            c.start()
            # Node 1 is the preferred leader of t, or of none of it.
            ctx.varve("topic", "create", "t", "--partitions", 1, "--replication-factor", 3, "--config", "min.insync.replicas=2", "-b", c.bootstrap)
            want = "1,2,3" if of_leader else "2,3,1"
            ctx.varve("cluster", "move", "t", "--replicas", want, "--wait", "-b", c.bootstrap)
            wait_for("the preferred leader", lambda: c.leader("t").id == int(want[0]), 30)
            c.wait_in_sync("t")
            with Load(c, "t") as load:
                ballast = hog(at, 4 << 20)
                if of_leader:
                    wait_for("another leader", lambda: c.leader("t") and c.leader("t").id != 1, 20)
                load.wait_acks(100, 60)
                for _ in range(12):  # the preferred leader does not get it back while its disk is full
                    assert c.leader("t").id != 1
                    time.sleep(0.5)
                assert node.alive(), node.trace()[-3000:]
                p = ctx.varve("consume", "t", "-o", "-5", "-e", "-b", c.bootstrap)  # five of a stream that may go on meanwhile
                lines = p.stdout.count("\n")
                assert lines >= 5, (lines, p.stdout, p.stderr)
                os.unlink(ballast)
                settle(c, load)
                wait_for("the preferred leader again", lambda: c.leader("t").id == int(want[0]), 40)
            load.check()
        finally:
            c.kill_all()


def test_full_disk_of_a_leader(ctx):
    """D7: records are refused until leadership has gone to a replica with room, which takes a second or two; it comes back by
    itself when there is room."""
    full_disk(ctx, True)


def test_full_disk_of_a_follower(ctx):
    """D8: the quorum goes on without it; it catches up when there is room."""
    full_disk(ctx, False)


@contextlib.contextmanager
def faulty(ctx, victim_of, **settings):
    """A cluster on the blocking I/O with disk_fault.c below each node; (cluster, fault(node, text), heal(node))."""
    library = os.path.join(ctx.bin, "libdisk-fault.so")
    if not os.path.exists(library) or ctx.sanitized:
        raise Skip("the library that fails disks was not built, or cannot be preloaded under a sanitizer")
    c = Cluster(ctx, settings={"io.backend": "blocking", **settings}, start=False)
    for node in c.nodes.values():
        node.control = os.path.join(node.root, "fault")
        node.wrapper = ["env", f"LD_PRELOAD={library}", f"VARVE_DISK_FAULT={node.control}"]
    c.start()
    c.create("t", partitions=1, min_insync_replicas=2)
    leader = c.leader("t")
    victim = leader if victim_of == "leader" else next(n for n in c.running() if n is not leader)

    def fault(text):
        with open(victim.control + ".new", "w") as f:
            f.write(text + "\n")
        os.rename(victim.control + ".new", victim.control)
    yield c, victim, fault, lambda: os.unlink(victim.control)


def failing(ctx, whose, call):
    with faulty(ctx, whose) as (c, victim, fault, heal):
        with Load(c, "t") as load:
            at = time.monotonic()
            fault(f"{call} {errno.EIO} journal-0/")
            code = victim.process.wait(60)
            assert code == 1 and "has failed" in victim.trace(), (code, victim.trace()[-3000:])
            load.wait_acks(50, GOES_ON)
            print(f"{call} of a {whose} failed:", summary([load.gap(at)]))
            heal()
            victim.start()
            settle(c, load)
        load.check()
        same_copies(ctx, c)


def test_sync_of_the_leader_fails(ctx):
    """D3: no acknowledgement, the process ends, leadership moves; it rejoins and is repaired."""
    failing(ctx, "leader", "sync")


def test_sync_of_a_follower_fails(ctx):
    """D4"""
    failing(ctx, "follower", "sync")


def test_write_of_the_leader_fails(ctx):
    """D6"""
    failing(ctx, "leader", "write")


def test_slow_disk_of_a_follower(ctx):
    """D5, a follower's: the others are a majority without it."""
    with faulty(ctx, "follower") as (c, _, fault, heal):
        with Load(c, "t") as load:
            at = time.monotonic()
            fault("slow 1000 journal-0/")
            load.wait_acks(200, 60)
            time.sleep(3)
            print("slow follower:", summary([load.gap(at)]))
            heal()
            settle(c, load)
        load.check()


def test_slow_disk_of_the_leader(ctx):
    """D5: no false acknowledgement, and no loss, however slow."""
    with faulty(ctx, "leader") as (c, _, fault, heal):
        with Load(c, "t") as load:
            fault("slow 2000 journal-0/")
            time.sleep(8)
            heal()
            settle(c, load)
        load.check()


def hanging(ctx, part, **settings):
    with faulty(ctx, "leader", **settings) as (c, victim, fault, heal):
        was_controller = c.controller() is victim
        load = Load(c, "t", rate=300)
        for p in load.producers:
            p.padding = "x" * 3000  # what waits is bounded by bytes
        with load:
            fault(f"slow 6000 {part}")
            others = [n for n in c.running() if n is not victim]
            wait_for("another leader", lambda: c.leader("t", but=(victim,)) is not victim, 30)
            if was_controller and part.startswith("journal"):
                wait_for("another controller", lambda: (m := c.metadata(others[0], [])) and m.controller not in (-1, victim.id), 20)
            load.wait_acks(500, 20)
            ctx.varve("produce", "t", "--acks", "1", "-b", c.bootstrap, input="no:1:a leader alone would wait\n")
            assert victim.alive() and "has not come to an end" in victim.trace(), victim.trace()[-3000:]
            time.sleep(4.5)  # two pings of each reactor: whichever it is that cannot write
            for n in others:
                assert f"broker {victim.id}: its disk is well again" not in n.trace(), n.trace()[-3000:]
            heal()
            settle(c, load)
        load.check()
        same_copies(ctx, c)


def test_disk_of_the_leader_hangs(ctx):
    """D5: it answers no more. What is led there, the metadata log too, goes to those whose disks do; nobody waits for it."""
    hanging(ctx, "journal-0/")


def test_segments_of_the_leader_hang(ctx):
    """D5: only its segment files, so that the journal fills up."""
    hanging(ctx, "/t-0/", **{"journal.bytes": 16 << 20})


def test_disks_of_all_hang_by_turns(ctx):
    """Each for three seconds of nine: leadership does not go round in circles for long."""
    with faulty(ctx, "leader") as (c, *_):
        with Load(c, "t") as load:
            begun, epochs = time.monotonic(), []
            while (at := time.monotonic() - begun) < 28:
                for node in c.nodes.values():
                    with open(node.control + ".new", "w") as f:
                        f.write(f"slow {3000 if (at + 3 * node.id) % 9 < 2.5 else 0} journal-0/\n")
                    os.rename(node.control + ".new", node.control)
                if at >= 13:
                    epochs.append(c.partition("t").epoch)
                time.sleep(0.5)
            assert epochs[-1] - epochs[0] <= 1, epochs
            for node in c.nodes.values():
                os.unlink(node.control)
            settle(c, load)
        load.check()


def test_old_disk_comes_back(ctx):
    """D17: a copy of the disk from before is put back: nothing acknowledged since then is lost. The leader notices, says so, and does not count the
    node any more, until it begins anew as the operator is told."""
    c = Cluster(ctx)
    c.create("t", partitions=1, min_insync_replicas=2)
    with Load(c, "t") as load:
        victim = next(n for n in c.running() if n is not c.leader("t"))
        assert victim.stop() == 0
        old = os.path.join(victim.root, "old")
        shutil.copytree(victim.data, old)
        victim.start()
        settle(c, load)
        load.wait_acks(200)
        killed_at(victim)
        victim.wipe()
        os.rename(old, victim.data)
        victim.start()
        said = f"t-0: node {victim.id} has acknowledged everything up to offset"
        wait_for("the leader to notice", lambda: any(said in n.trace() for n in c.running() if n is not victim), 20)
        load.wait_acks(50)
        assert victim.id not in c.partition("t").isr
        assert victim.stop() == 0
        victim.wipe()
        victim.start()
        settle(c, load)
        healthy(ctx, c)
    load.check()


test_each_disk_is_wiped_in_turn.slow = test_slow_disk_of_the_leader.slow = True
for test in (test_sync_of_the_leader_fails, test_sync_of_a_follower_fails, test_write_of_the_leader_fails, test_slow_disk_of_a_follower,
             test_slow_disk_of_the_leader, test_disk_of_the_leader_hangs, test_segments_of_the_leader_hang, test_disks_of_all_hang_by_turns,
             test_old_disk_comes_back, test_each_disk_is_wiped_in_turn):
    test.any_io = True
for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.slow = True
