"""Machines of a cluster that give less than the brokers would like: all disks full, a file system that becomes read-only, memory that ends."""
import contextlib
import os
import socket
import subprocess

from checker import Load
from cluster import Cluster
from harness import Skip, run, wait_for
from raw import Client, batch
from test_cluster_disk import same_copies
from test_cluster_kill import GOES_ON, settle
from test_limits import file_system, hog


@contextlib.contextmanager
def on_file_systems(ctx, megabytes, which, **settings):
    """A cluster, and where the file systems of the nodes `which` are mounted."""
    c = Cluster(ctx, start=False)
    with contextlib.ExitStack() as stack:
        at = {}
        for node_id in which:
            node = c.nodes[node_id]
            at[node_id] = stack.enter_context(file_system(node.root, megabytes))
            node.data = os.path.join(at[node_id], "data")
            node.extra = {"disk.reserve.bytes": 16 << 20, "journal.bytes": 32 << 20, **settings}
        stack.callback(c.kill_all)
        c.start()
        yield c, at


def produce(c, value):
    with contextlib.suppress(OSError, EOFError), Client.__new__(Client) as raw:
        raw.sock = socket.create_connection(c.leader("t").address, timeout=10)
        error, offset, _ = raw.produce("t", batch(value), timeout_ms=3000)
        return error, offset
    return -1, -1


def values(c):
    with Client.__new__(Client) as raw:
        raw.sock = socket.create_connection(c.leader("t").address, timeout=10)
        return raw.batches("t")


def test_all_disks_are_full(ctx):
    """D8: writes are refused with an error that says so, reads go on, nobody ends; with room writing goes on by itself."""
    with on_file_systems(ctx, 128, (1, 2, 3)) as (c, at):
        c.create("t", min_insync_replicas=2)
        acked = [v for v in (b"before %d" % i for i in range(50)) if produce(c, v)[0] == 0]
        assert len(acked) == 50
        ballast = [hog(x, 4 << 20) for x in at.values()]
        said = wait_for("records to be refused", lambda: (e := produce(c, b"x" * 1000)[0]) not in (0, -1) and e, 30)
        assert said == 56, said  # KAFKA_STORAGE_ERROR
        read = values(c)
        assert len(read) >= len(acked) and all(v in x for v, x in zip(acked, read)), (len(read), len(acked))
        assert all(n.alive() for n in c.nodes.values())
        for path in ballast:
            os.unlink(path)
        wait_for("writing to go on", lambda: produce(c, b"after")[0] == 0, 30)
        c.wait_in_sync("t")
        read = values(c)
        assert all(v in x for v, x in zip(acked, read)) and any(b"after" in x for x in read)
        assert all(n.starts == 1 for n in c.nodes.values())
        same_copies(ctx, c)


def test_the_leaders_file_system_becomes_read_only(ctx):
    """D19: as D3: it ends and says why, others lead; with the file system repaired it comes back and has everything again."""
    with on_file_systems(ctx, 192, (1,)) as (c, at):
        node = c.nodes[1]
        c.create("t", partitions=3, min_insync_replicas=2)
        assert any(p.leader == 1 for p in c.metadata(node).topics["t"].values())
        with Load(c, "t") as load:
            load.wait_acks(100)
            if run(["mount", "-o", "remount,abort", at[1]], check=False).returncode != 0:
                raise Skip("this kernel does not abort a file system on request")
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(30)
            assert node.process.poll() == 1 and "has failed" in node.trace(), (node.process.poll(), node.trace()[-2000:])
            load.wait_acks(100, GOES_ON)
            wait_for("the disk to be free", lambda: run(["umount", at[1]], check=False).returncode == 0)
            run(["/sbin/e2fsck", "-p", os.path.join(node.root, "image")], check=False)
            run(["mount", "-o", "loop", os.path.join(node.root, "image"), at[1]])
            node.start()
            settle(c, load)
        load.check()
        same_copies(ctx, c)


def test_the_leaders_memory_ends(ctx):
    """P8: an address space that is smaller than what is asked of it; it serves less or ends; the others do not; it comes back under the
    same limit."""
    if ctx.sanitized:
        raise Skip("a sanitizer needs the whole address space")
    c = Cluster(ctx, start=False)
    node = c.nodes[1]
    node.extra = {"reactors": 2, "memory.max.bytes": 1 << 30}
    node.wrapper = ["prlimit", f"--as={400 << 20}:{400 << 20}"]
    c.start()
    c.create("t", partitions=3, min_insync_replicas=2)
    with Load(c, "t") as load, contextlib.ExitStack() as stack:
        for _ in range(40):  # promises that are kept: memory is really touched
            with contextlib.suppress(OSError):
                s = stack.enter_context(socket.create_connection(node.address, timeout=5))
                s.setblocking(False)
                s.send((40 << 20).to_bytes(4, "big") + bytes(1 << 20))
        load.wait_acks(200, 60)
        stack.close()
        print("it ended" if not node.alive() else "it goes on")
        if node.alive():
            node.kill9()
        node.start()
        settle(c, load)
    load.check()
    same_copies(ctx, c)


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.slow = True
