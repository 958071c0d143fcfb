"""Three brokers, each in a network namespace of its own, whose links are cut: fully, one way, in part."""
import time

from checker import Load, summary
from cluster import Cluster
from harness import wait_for
from test_cluster_kill import settle


def cluster(ctx, **kw):
    c = Cluster(ctx, namespaces=True, **kw)
    c.create("t", partitions=2, min_insync_replicas=2)
    return c


def others(c, node):
    return [n for n in c.nodes.values() if n is not node]


def test_leader_is_cut_off(ctx):
    """N1: the others elect one; the old leader, which clients still reach, acknowledges nothing and resigns."""
    c = cluster(ctx)
    with Load(c, "t") as load:
        old = c.leader("t")
        at = time.monotonic()
        c.cut(old)
        new = wait_for("another leader", lambda: (n := c.leader("t", but=(old,))) is not old and n, 20)
        load.wait_acks(50, 30)
        print("leader cut off:", summary([load.gap(at, 30)]))

        def resigned():
            m = c.metadata(old, ["t"])
            return m and (0 not in m.topics["t"] or m.topics["t"][0].leader != old.id)
        wait_for("the old leader to resign", resigned, 10)
        c.heal()
        settle(c, load)
        assert c.leader("t") is not None and new.alive()
    load.check()


def test_leader_loses_its_cable(ctx):
    """N1 and N7: clients do not reach it either; nobody says goodbye."""
    c = cluster(ctx)
    with Load(c, "t") as load:
        old = c.leader("t")
        at = time.monotonic()
        c.cut_off(old)
        wait_for("another leader", lambda: c.leader("t", but=(old,)) is not old, 20)
        load.wait_acks(50, 60)
        print("cable pulled:", summary([load.gap(at, 60)]))
        c.heal()
        settle(c, load)
    load.check()


def one_way(ctx, from_leader):
    c = cluster(ctx)
    with Load(c, "t") as load:
        leader = c.leader("t")
        follower = others(c, leader)[0]
        c.cut_one_way(*((leader, follower) if from_leader else (follower, leader)))
        time.sleep(2)  # whatever happens because of it
        load.wait_acks(50, 30)
        third = next(n for n in others(c, leader) if n is not follower)
        before = c.metadata(third, ["t"]).topics["t"][0]
        time.sleep(6)
        after = c.metadata(third, ["t"]).topics["t"][0]
        assert after.epoch - before.epoch <= 1, f"epochs go up while one link is cut one way: {before} then {after}"
        load.wait_acks(50, 30)
        c.heal()
        settle(c, load)
    load.check()


def test_one_way_from_the_leader(ctx):
    """N2: a leader that a majority hears stays; epochs do not go up."""
    one_way(ctx, True)


def test_one_way_to_the_leader(ctx):
    one_way(ctx, False)


def test_partial_mesh(ctx):
    """N3: two nodes do not hear each other, one hears both: one stable leader."""
    c = cluster(ctx)
    with Load(c, "t") as load:
        leader = c.leader("t")
        follower, middle = others(c, leader)
        c.cut(leader, [follower])
        load.wait_acks(50, 30)
        time.sleep(2)
        before = c.metadata(middle, ["t"]).topics["t"][0]
        time.sleep(6)
        after = c.metadata(middle, ["t"]).topics["t"][0]
        assert after.epoch - before.epoch <= 1, f"leaders change while two nodes do not hear each other: {before} then {after}"
        load.wait_acks(50, 30)
        c.heal()
        settle(c, load)
    load.check()


def test_flapping(ctx):
    """N4: whenever a majority is connected for more than a second there is progress."""
    c = cluster(ctx)
    with Load(c, "t") as load:
        for _ in range(10):
            c.cut(c.leader("t", seconds=60))
            time.sleep(0.2)
            c.heal()
            time.sleep(0.2)
        load.wait_acks(50, 60)
        settle(c, load)
    load.check()


def test_nobody_hears_anybody(ctx):
    """All links cut: nothing is acknowledged; healed: everything goes on."""
    c = cluster(ctx)
    with Load(c, "t", threads=1, raw=1) as load:
        for node in c.nodes.values():
            c.cut(node)
        time.sleep(2)
        before = load.acks()
        time.sleep(3)
        assert load.acks() == before, "records were acknowledged by single nodes"
        c.heal()
        settle(c, load)
    load.check()


def test_members_change_while_links_are_cut(ctx):
    """N9: a partition moves to a node that its leader does not hear, then the leader is cut off: either set of replicas works, and the move ends."""
    c = cluster(ctx)
    c.add(4)
    with Load(c, "t") as load:
        leader = c.leader("t")
        stays = next(n for n in others(c, leader) if n.id in c.partition("t").replicas)
        c.cut_one_way(c.nodes[4], leader)
        ctx.varve("cluster", "move", "t:0", "--replicas", f"{leader.id},{stays.id},4", "-b", c.bootstrap)
        time.sleep(2)
        load.wait_acks(50, 30)
        c.cut(leader)
        wait_for("another leader", lambda: c.leader("t", but=(leader,)) is not leader, 30)
        load.wait_acks(50, 30)
        c.heal()
        want = sorted((leader.id, stays.id, 4))
        wait_for("the move to end", lambda: (p := c.partition("t")) and sorted(p.replicas) == want and sorted(p.isr) == want, 60)
        settle(c, load)
    load.check()


test_flapping.slow = test_partial_mesh.slow = test_one_way_to_the_leader.slow = True
for test in (test_leader_is_cut_off, test_leader_loses_its_cable, test_one_way_from_the_leader, test_one_way_to_the_leader, test_partial_mesh, test_flapping,
             test_nobody_hears_anybody, test_members_change_while_links_are_cut):
    test.any_io = True
for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.slow = True
