"""A machine that gives less than the broker would like: few descriptors, small files, a full or unwritable disk."""
import contextlib
import os
import shutil
import subprocess
import time

from harness import Raw, Skip, run, wait_for
from raw import Client, batch


def limited(b, **limits):
    """Starts the broker's process under resource limits."""
    plain = b.command
    b.command = lambda: ["prlimit", *(f"--{k}={v}:{v}" for k, v in limits.items()), *plain()]
    return b


def numbers(b, topic="t"):
    with Client(b, timeout=60) as c:
        return [int(x[x.rindex(b"n=") + 2:].split(b";")[0]) for x in c.batches(topic)]


def value(n, size=20):
    return (b"n=%d;" % n).ljust(size, b".")


def test_few_descriptors(ctx):
    """64 descriptors: connections beyond their share are closed, files are closed and opened again, nothing fails."""
    b = limited(ctx.broker(settings={"reactors": 1, "log.segment.bytes": 1 << 20}, start=False), nofile=64)
    b.start()
    with Client(b) as c:
        topics = [f"t{i}" for i in range(60)]
        assert c.create(*topics) == [0] * 60
        for i in range(8):
            for t in topics:
                assert c.produce(t, batch(value(i, 400_000)))[0] == 0
        for t in topics:
            assert len(c.batches(t)) == 8, t
        crowd = [Raw(b) for _ in range(200)]
        time.sleep(0.3)
        cpu = cpu_seconds(b)
        time.sleep(1)
        assert cpu_seconds(b) - cpu < 0.7, "the broker spins while it has no descriptors"
        assert c.produce("t0", batch(value(8)))[0] == 0
        assert len(c.batches("t0")) == 9
        for x in crowd:
            x.close()
    wait_for("a place for a new client", lambda: can_connect(b))
    b.kill9()
    b.start()
    assert numbers(b, "t0") == list(range(9))
    assert b.stop() == 0, b.trace()[-3000:]


def cpu_seconds(b):
    with open(f"/proc/{b.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def can_connect(b):
    with contextlib.suppress(OSError, EOFError), Client(b, timeout=3) as c:
        c.call(18, 0, b"")
        return True


def produce_until_refused(b, n, size, limit):
    """Sends numbered values; returns the numbers that were acknowledged and the first error (None: the connection or broker went)."""
    acked = []
    with contextlib.suppress(OSError, EOFError), Client(b, timeout=60) as c:
        for i in range(n, n + limit):
            error = c.produce("t", batch(value(i, size)), timeout_ms=2000)[0]
            if error:
                return acked, error
            acked.append(i)
    return acked, None


def test_file_size_limit(ctx):
    """A file cannot grow beyond RLIMIT_FSIZE: no death by SIGXFSZ, nothing acknowledged is lost."""
    b = limited(ctx.broker(settings={"journal.bytes": 64 << 20, "log.segment.bytes": 1 << 30}, start=False), fsize=80 << 20)
    b.start()
    with Client(b) as c:
        assert c.create("t") == [0]
    acked, error = produce_until_refused(b, 0, 900_000, 300)
    assert len(acked) < 300, "the limit was never met"
    if b.alive():
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            wait_for("the end", lambda: not b.alive(), 15)
    code = b.process.poll()
    assert code in (None, 1), (code, b.trace()[-2000:])
    if code is None:
        b.kill9()
    plain = b.command
    b.command = lambda: plain()[2:]  # without the limit
    b.start()
    got = numbers(b)
    assert got[:len(acked)] == acked, (len(got), len(acked))
    assert b.stop() == 0
    assert ctx.varve("dump", "--verify", b.data).returncode == 0


def test_unwritable_folder(ctx):
    """Refused at the start, with the path; root writes everywhere, so a read-only mount plays it there."""
    b = ctx.broker(start=False)
    os.makedirs(b.data)
    mounted = os.geteuid() == 0
    if mounted:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", b.data], capture_output=True).returncode != 0:
            raise Skip("may not mount")
    else:
        os.chmod(b.data, 0o500)
    try:
        b.spawn()
        assert b.process.wait(30) == 1, b.trace()
        assert b.data in b.trace() and "ERROR" in b.trace(), b.trace()
    finally:
        if mounted:
            run(["umount", b.data])


@contextlib.contextmanager
def file_system(root, megabytes):
    """A file system of its own in a file below `root`; the path where it is mounted. Its users must be gone at the end."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4", path="/sbin:/usr/sbin:/usr/bin:/bin"):
        raise Skip("needs root and mkfs.ext4 for a file system in a file")
    image, at = os.path.join(root, "image"), os.path.join(root, "disk")
    os.mkdir(at)
    with open(image, "wb") as f:
        f.truncate(megabytes << 20)
    run(["/sbin/mkfs.ext4", "-q", "-m", "0", image])
    p = run(["mount", "-o", "loop", image, at], check=False)
    if p.returncode != 0:
        raise Skip(f"loop mounts are not possible: {p.stderr.strip()}")
    try:
        yield at
    finally:
        wait_for("the disk to be free", lambda: run(["umount", at], check=False).returncode == 0)


@contextlib.contextmanager
def small_disk(ctx, megabytes):
    """A broker whose data will lie on a file system of its own, and where that is."""
    b = ctx.broker(start=False)
    with file_system(b.root, megabytes) as at:
        b.data = os.path.join(at, "data")
        try:
            yield b, at
        finally:
            if b.alive():
                b.kill9()


def hog(at, leave_bytes):
    path = os.path.join(at, "hog")
    free = os.statvfs(at)
    size = free.f_bavail * free.f_frsize - leave_bytes
    with open(path, "wb") as f, contextlib.suppress(OSError):  # to the last block, until the disk says that it is full
        for at in range(0, size, 1 << 20):
            f.write(bytes(1 << 20))
    return path


def disk_fills_up(ctx, settings, kill):
    with small_disk(ctx, 64) as (b, at):
        b.settings.update(settings)
        with open(os.path.join(at, "ballast"), "wb") as f:
            os.posix_fallocate(f.fileno(), 0, 12 << 20)
        b.start()
        with Client(b) as c:
            assert c.create("t") == [0]
        acked, error = produce_until_refused(b, 0, 300_000, 1000)
        assert error is not None, f"no clear answer, {len(acked)} acknowledged; alive: {b.alive()}\n{b.trace()[-3000:]}"
        assert 0 < len(acked) < 400
        assert numbers(b)[:len(acked)] == acked  # reading goes on
        again, error = produce_until_refused(b, 10_000, 300_000, 20)
        assert error is not None and len(again) < 5, (again, error)  # a checkpoint may have left room for one or two
        acked += again
        if kill:
            b.kill9()
            b.start()
            assert numbers(b)[:len(acked)] == acked
        elif kill is None:
            code = b.stop(90)
            assert code == 0, (code, b.trace()[-3000:])
            b.start()
            assert numbers(b)[:len(acked)] == acked
        assert b.alive()
        # Space comes back: something else on the disk goes.
        os.unlink(os.path.join(at, "ballast"))

        def writes():
            with Client(b) as c:
                return c.produce("t", batch(value(77_777)), timeout_ms=1000)[0] == 0
        wait_for("writing to go on", writes, 30)
        got = numbers(b)
        assert got[:len(acked)] == acked and got[-1] == 77_777, (len(got), len(acked))
        b.kill9()
        b.start()
        assert numbers(b) == got
        assert b.stop() == 0, b.trace()[-3000:]
        assert ctx.varve("dump", "--verify", b.data).returncode == 0


def test_disk_fills_up(ctx):
    disk_fills_up(ctx, {"disk.reserve.bytes": 4 << 20}, False)


def test_disk_fills_up_and_kill(ctx):
    disk_fills_up(ctx, {"disk.reserve.bytes": 4 << 20}, True)


def test_disk_fills_up_and_stop(ctx):
    disk_fills_up(ctx, {"disk.reserve.bytes": 4 << 20}, None)


def test_disk_taken_by_others(ctx):
    """Somebody else takes all that is left, the reserve too, while producers write; then gives it back."""
    with small_disk(ctx, 96) as (b, at):
        b.settings["disk.reserve.bytes"] = 4 << 20
        b.start()
        with Client(b) as c:
            assert c.create("t") == [0]
        acked, _ = produce_until_refused(b, 0, 100_000, 20)
        path = hog(at, 0)
        more, error = produce_until_refused(b, 20, 100_000, 2000)
        acked += more
        if b.alive():
            assert error is not None
            assert numbers(b)[:len(acked)] == acked
            b.kill9()
        assert len(acked) < 2000
        with contextlib.suppress(AssertionError):
            b.start()  # may refuse without any space, but with its reason
        if b.alive():
            assert numbers(b)[:len(acked)] == acked
            b.kill9()
        os.unlink(path)
        b.start()
        assert numbers(b)[:len(acked)] == acked
        assert b.stop() == 0, b.trace()[-3000:]
