"""A disk that fails, a file system that becomes read-only, a directory that goes, memory that ends, a process that is stopped:
nothing acknowledged is lost, nothing is acknowledged that could be, and the broker says what happened."""
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
import time

from harness import Raw, Skip, run, wait_for
from raw import Client, batch
from test_limits import limited, numbers, produce_until_refused, small_disk, value


class FaultyDisk:
    """A broker on the blocking I/O with tests/e2e/disk_fault.c between it and the kernel."""

    def __init__(self, ctx, **settings):
        library = os.path.join(ctx.bin, "libdisk-fault.so")
        if not os.path.exists(library) or ctx.sanitized:
            raise Skip("the library that fails disks was not built, or cannot be preloaded under a sanitizer")
        self.b = ctx.broker(start=False, settings=settings)
        self.b.settings["io.backend"] = "blocking"
        self.control = os.path.join(self.b.root, "fault")
        plain = self.b.command
        self.b.command = lambda: ["env", f"LD_PRELOAD={library}", f"VARVE_DISK_FAULT={self.control}", *plain()]
        self.b.start()

    def fail(self, call, error, part):
        with open(self.control + ".new", "w") as f:
            f.write(f"{call} {error} {part}\n")
        os.rename(self.control + ".new", self.control)

    def heal(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.control)


def disk_fails(ctx, call, error, part, size, **settings):
    """The first failure is the last: what was acknowledged before is there after a restart, and no more was acknowledged."""
    d = FaultyDisk(ctx, **settings)
    b = d.b
    with Client(b) as c:
        assert c.create("t") == [0]
    acked, first = produce_until_refused(b, 0, size, 30)
    assert len(acked) == 30 and first is None
    d.fail(call, error, part)
    more, first = produce_until_refused(b, 30, size, 200)
    acked += more
    assert b.process.wait(30) == 1, b.trace()[-2000:]
    assert len(more) < 200, "the fault was never met"
    text = b.trace()
    assert "has failed" in text and "nothing more is acknowledged" in text and b.data in text, text[-2000:]
    assert first is None or first in (56, 6, 7), first  # KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT
    d.heal()
    b.start()
    got = numbers(b)
    assert got[:len(acked)] == acked, (len(got), len(acked))
    assert got == list(range(len(got)))  # what was under way may be there, in order
    again, _ = produce_until_refused(b, 1000, size, 5)
    assert again == list(range(1000, 1005))
    assert b.stop() == 0, b.trace()[-2000:]
    assert ctx.varve("dump", "--verify", b.data).returncode == 0


def test_journal_write_fails(ctx):
    disk_fails(ctx, "write", errno.EIO, "journal-0/", 1000)


def test_segment_write_fails(ctx):
    disk_fails(ctx, "write", errno.EIO, "/t-0/", 700_000, **{"journal.bytes": 8 << 20, "disk.reserve.bytes": 0})


def test_segment_sync_fails(ctx):
    disk_fails(ctx, "sync", errno.EIO, "/t-0/", 700_000, **{"journal.bytes": 8 << 20, "disk.reserve.bytes": 0})


def test_sync_that_finds_no_space_is_final(ctx):
    """ENOSPC and EDQUOT of a sync are lost pages, not a full disk to wait for."""
    disk_fails(ctx, "sync", errno.EDQUOT, "/t-0/", 700_000, **{"journal.bytes": 8 << 20, "disk.reserve.bytes": 0})


def test_quota(ctx):
    """EDQUOT where segments are written: records wait in the journal, are refused when it is full, and go on by themselves."""
    d = FaultyDisk(ctx, **{"journal.bytes": 32 << 20, "disk.reserve.bytes": 0})
    b = d.b
    with Client(b) as c:
        assert c.create("t") == [0]
    d.fail("write", errno.EDQUOT, "/t-0/")
    acked, error = produce_until_refused(b, 0, 700_000, 100)
    assert error is not None and 0 < len(acked) < 100 and b.alive(), (len(acked), error, b.trace()[-2000:])
    assert numbers(b)[:len(acked)] == acked
    d.heal()

    def writes():
        with Client(b) as c:
            return c.produce("t", batch(value(500)), timeout_ms=1000)[0] == 0
    wait_for("writing to go on", writes, 30)
    got = numbers(b)
    assert got[:len(acked)] == acked and got[-1] == 500
    b.kill9()
    b.start()
    assert numbers(b) == got
    assert b.stop() == 0, b.trace()[-2000:]
    assert ctx.varve("dump", "--verify", b.data).returncode == 0


def test_file_system_becomes_read_only(ctx):
    """As ext4 does when its own journal fails: reads may go on, nothing is acknowledged, the end is clear."""
    with small_disk(ctx, 192) as (b, at):
        b.settings["disk.reserve.bytes"] = 4 << 20
        b.settings["journal.bytes"] = 16 << 20
        b.start()
        with Client(b) as c:
            assert c.create("t") == [0]
        acked, _ = produce_until_refused(b, 0, 100_000, 50)
        if run(["mount", "-o", "remount,abort", at], check=False).returncode != 0:
            raise Skip("this kernel does not abort a file system on request")
        more, error = produce_until_refused(b, 50, 300_000, 300)
        assert len(more) < 300, "the file system takes writes"
        acked += more
        with contextlib.suppress(subprocess.TimeoutExpired):
            b.process.wait(30)
        assert b.process.poll() == 1, (b.process.poll(), error, b.trace()[-2000:])
        assert "has failed" in b.trace()
        b.spawn()  # still read-only: refused with the path
        assert b.process.wait(30) == 1 and b.data in b.trace(b.log_start), b.trace()[-2000:]
        wait_for("the disk to be free", lambda: run(["umount", at], check=False).returncode == 0)
        run(["/sbin/e2fsck", "-p", os.path.join(b.root, "image")], check=False)
        run(["mount", "-o", "loop", os.path.join(b.root, "image"), at])
        b.start()
        assert numbers(b)[:len(acked)] == acked
        assert b.stop() == 0, b.trace()[-2000:]


def test_directory_vanishes(ctx):
    """Removed under the broker: no crash; either it goes on with what it holds open or it says that the directory failed."""
    b = ctx.broker()
    with Client(b) as c:
        assert c.create("t") == [0]
    acked, _ = produce_until_refused(b, 0, 1000, 20)
    assert len(acked) == 20
    shutil.rmtree(b.data)
    with contextlib.suppress(OSError, EOFError), Client(b) as c:
        c.create("u")
    produce_until_refused(b, 20, 500_000, 20)
    if b.alive():
        b.process.send_signal(signal.SIGTERM)
    code = b.process.wait(60)
    assert code in (0, 1), (code, b.trace()[-2000:])
    assert code == 0 or "has failed" in b.trace() or "could not be" in b.trace(), b.trace()[-2000:]


def test_data_directory_is_a_file(ctx):
    b = ctx.broker(start=False)
    with open(b.data, "w") as f:
        f.write("not a directory")
    b.spawn()
    assert b.process.wait(30) == 1
    assert b.data in b.trace() and "ERROR" in b.trace(), b.trace()


def test_disk_smaller_than_its_reserve(ctx):
    with small_disk(ctx, 64) as (b, _):
        b.spawn()
        assert b.process.wait(30) == 1
        for word in (b.data, "MiB free", "disk.reserve.bytes"):
            assert word in b.trace(), b.trace()
        shutil.rmtree(b.data)
        b.settings["disk.reserve.bytes"] = 4 << 20
        b.start()
        assert b.stop() == 0


def test_descriptors_and_many_reactors(ctx):
    """Too low a limit is refused with the number; just enough works, however many files there are."""
    b = limited(ctx.broker(settings={"reactors": 8}, start=False), nofile=100)
    b.spawn()
    assert b.process.wait(30) == 1 and "open-file limit of 100 is too low" in b.trace(), b.trace()
    b = limited(ctx.broker(settings={"reactors": 4, "log.segment.bytes": 1 << 20}, start=False), nofile=96)
    b.start()
    with Client(b, timeout=30) as c:
        topics = [f"t{i}" for i in range(60)]
        assert c.create(*topics) == [0] * 60
        for i in range(4):
            for t in topics:
                assert c.produce(t, batch(value(i, 400_000)))[0] == 0
        for t in topics[::7]:
            assert len(c.batches(t)) == 4
    assert b.stop() == 0, b.trace()[-2000:]


def test_address_space_ends(ctx):
    """RLIMIT_AS: connections are closed for want of memory, or the broker ends; what was acknowledged is there."""
    if ctx.sanitized:
        raise Skip("a sanitizer needs the whole address space")
    b = limited(ctx.broker(settings={"reactors": 2, "memory.max.bytes": 1 << 30}, start=False), **{"as": 400 << 20})
    b.start()
    with Client(b) as c:
        assert c.create("t") == [0]
    acked, conns = [], []
    for i in range(40):  # promises that are kept: memory is really touched
        c = Raw(b, timeout=5)
        c.sock.setblocking(False)
        with contextlib.suppress(OSError):
            c.send((40 << 20).to_bytes(4, "big") + bytes(1 << 20))
        conns.append(c)
    more, _ = produce_until_refused(b, 0, 200_000, 100)
    acked += more
    for c in conns:
        c.close()
    if b.alive():
        wait_for("it to serve again", lambda: produce_until_refused(b, 5000, 100, 1)[0] == [5000], 20)
        b.kill9()
    plain = b.command
    b.command = lambda: plain()[2:]
    b.start()
    assert numbers(b)[:len(acked)] == acked
    assert b.stop() == 0


def test_stopped_and_continued(ctx):
    """SIGSTOP for longer than every deadline of the clients, then SIGCONT: timers fire once, connections and records are fine."""
    b = ctx.broker(settings={"receive.timeout.ms": 1000, "send.timeout.ms": 1000})
    with Client(b, timeout=30) as c:
        assert c.create("t") == [0]
        assert c.produce("t", batch(value(0)))[0] == 0
        for round_ in range(2):
            b.process.send_signal(signal.SIGSTOP)
            late = threading.Timer(1.7, lambda: b.process.send_signal(signal.SIGCONT))
            late.start()
            got = c.produce("t", batch(value(round_ + 1)))  # sent while it is stopped
            late.join()
            assert got[:2] == (0, round_ + 1), got
        begun = time.monotonic()
        assert c.fetch("t", 3, wait_ms=300)[0] == 0
        assert 0.2 < time.monotonic() - begun < 5
    assert numbers(b) == [0, 1, 2]
    assert b.stop() == 0


for test in (test_journal_write_fails, test_segment_write_fails, test_segment_sync_fails, test_sync_that_finds_no_space_is_final, test_quota,
             test_data_directory_is_a_file, test_disk_smaller_than_its_reserve, test_stopped_and_continued):
    test.any_io = True

# Not for a sanitized broker: it cannot have a library preloaded, or needs the whole address space.
for test in (test_journal_write_fails, test_segment_write_fails, test_segment_sync_fails, test_sync_that_finds_no_space_is_final, test_quota,
             test_address_space_ends):
    test.slow = True
