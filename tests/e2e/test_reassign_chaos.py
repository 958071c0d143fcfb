"""Replicas move between five brokers at random, while brokers are killed, some lose their disks, and clients write."""
import random
import time

from checker import Load
from cluster import Cluster
from harness import wait_for


def test_moves_and_kills(ctx):
    dice = random.Random(time.time_ns())
    cluster = Cluster(ctx, 3)
    cluster.add(4)
    cluster.add(5)
    at = ("-b", cluster.bootstrap)
    cluster.create("t", 4)

    def settled():
        m = cluster.any_metadata(["t"])
        parts = m.topics["t"].values() if m else []
        return parts and all(len(p.replicas) == 3 and sorted(p.isr) == sorted(p.replicas) for p in parts)
    with Load(cluster, "t", rate=100) as load:
        end = time.monotonic() + (20 if ctx.quick else 30)
        down = None
        while time.monotonic() < end:
            what = dice.randrange(5)
            if what < 3:
                nodes = dice.sample(sorted(cluster.nodes), 3)
                ctx.varve("cluster", "move", f"t:{dice.randrange(4)}", "--replicas", ",".join(map(str, nodes)), *at, check=False)
            elif down:
                down.spawn()
                cluster.wait_formed()
                down = None
            else:
                down = dice.choice(list(cluster.nodes.values()))
                whole = settled()
                down.kill9()
                if whole and dice.randrange(3) == 0:
                    down.wipe()  # one at a time: it has to be whole again before the next
                    down.spawn()
                    cluster.wait_formed()
                    wait_for("the lost disk to be filled", settled, 60)
                    time.sleep(2)  # and the quorum
                    down = None
            time.sleep(dice.random() * 1.5)
        if down:
            down.spawn()
            cluster.wait_formed()
        wait_for("the moves to end", settled, 60)
        load.wait_acks(100)
    print(f"{load.check()} records")


test_moves_and_kills.slow = True


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = test.slow = True
