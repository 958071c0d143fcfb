"""What the end-to-end tests share: real broker processes, kcat, and a raw connection.

A Broker is one `varved` on a data folder of its own and a free loopback port. It is killed and its
folder removed when the test ends, whatever happened."""
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time


class Skip(Exception):
    """The machine lacks what the test needs; str(e) says what."""


class Context:
    """Where the binaries are and how this run wants brokers to be started."""

    def __init__(self, bin_dir, io, quick):
        self.bin = os.path.abspath(bin_dir)
        self.io = io
        self.quick = quick
        self.brokers = []
        self.clusters = []

    @property
    def sanitized(self):
        """Whether the broker keeps freed memory for a while: resident memory says little then."""
        with open(os.path.join(self.bin, "varved"), "rb") as f:
            return b"__asan_init" in f.read()

    def varve(self, *args, **kw):
        return run([os.path.join(self.bin, "varve"), *map(str, args)], **kw)

    def broker(self, **kw):
        b = Broker(self, **kw)
        self.brokers.append(b)
        return b

    def cleanup(self):
        with contextlib.ExitStack() as stack:  # the next is tried whatever became of one
            for owned in self.clusters + self.brokers:
                stack.callback(owned.destroy)
        self.brokers, self.clusters = [], []


def run(cmd, check=True, timeout=120, input=None, text=True):
    """Runs to the end and returns CompletedProcess; a failure shows both streams."""
    p = subprocess.run(cmd, input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, text=text)
    if check and p.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, cmd))}\nexit {p.returncode}\n--- stdout\n{p.stdout[-2000:]}\n--- stderr\n{p.stderr[-4000:]}")
    return p


def kcat(*args, **kw):
    return run(["kcat", *map(str, args)], **kw)


@contextlib.contextmanager
def told(ctx):
    """On a failure the ends of the brokers' traces are printed; then all is cleaned up."""
    try:
        yield ctx
    except BaseException:
        for b in ctx.brokers:
            print(f"--- trace of the broker on port {b.port} (end)\n{b.trace()[-3000:]}", flush=True)
        raise
    finally:
        ctx.cleanup()


ports = iter(range(20000, 32000))


def use_ports(counter):
    """Gives this process ports of its own: below those that the kernel hands to outgoing connections, so that a broker
    which was killed finds its port free again, and apart from those of the test processes beside it."""
    global ports
    with counter.get_lock():
        index = counter.value % 12
        counter.value += 1
    first = os.getpid() % 1000
    ports = (20000 + 1000 * index + (first + i) % 1000 for i in range(1000))


def use_ports_apart():
    """The same for a process that no pool numbers: with others beside it, its process id says where its ports begin."""
    global ports
    first = os.getpid() * 61  # neighbours in process ids are not neighbours in ports
    ports = (20000 + (first + i) % 12000 for i in range(12000))


def free_port():
    for port in ports:
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port of this process's range is free")


def wait_for(what, predicate, seconds=30):
    """A bound on waiting, not a measurement: fails loudly when `predicate` stays false."""
    end = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


class Broker:
    def __init__(self, context, args=(), settings=None, data=None, port=None, start=True):
        self.context = context
        self.root = tempfile.mkdtemp(prefix="varve-e2e.")
        self.data = data or os.path.join(self.root, "data")
        self.port = port or free_port()
        self.args = list(args)
        self.settings = dict(settings or {})
        if context.io:
            self.settings.setdefault("io.backend", context.io)
        self.process = None
        self.log_path = os.path.join(self.root, "log")
        self.starts = 0
        if start:
            self.start()

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def command(self):
        cmd = [os.path.join(self.context.bin, "varved"), "--data", self.data, "--listen", self.bootstrap]
        for key, value in self.settings.items():
            cmd += ["--set", f"{key}={value}"]
        return cmd + self.args

    def spawn(self):
        self.starts += 1
        self.log = open(self.log_path, "ab")
        self.log_start = self.log.tell()
        env = dict(os.environ, ASAN_OPTIONS="abort_on_error=1:detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1",
                   # A start that is refused ends with _exit() while threads still wait: no leak.
                   TSAN_OPTIONS="halt_on_error=1:abort_on_error=1:report_thread_leaks=0")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log, cwd=self.root, env=env)

    def start(self, seconds=30):
        self.spawn()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=30):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"varved exited with {self.process.returncode}:\n{self.trace()[-4000:]}")
            # Its own word, too: for some milliseconds after kill -9 the kernel may still take
            # connections for the dead one, whose io_uring holds the listening socket.
            return "ready: listening" in self.trace(self.log_start)
        wait_for("the broker's line that it is ready", ready, seconds)

    def trace(self, position=0):
        with contextlib.suppress(OSError), open(self.log_path, "rb") as f:
            f.seek(position)
            return f.read().decode(errors="replace")
        return ""

    def kill9(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self, seconds=60):
        """SIGTERM and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.log.close()
        return code

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def destroy(self):
        if self.alive():
            self.kill9()
        text = self.trace()
        shutil.rmtree(self.root, ignore_errors=True)
        if "Sanitizer:" in text or "runtime error:" in text or "assertion failed" in text.lower():
            raise AssertionError(f"the broker's trace shows a fault:\n{text[-6000:]}")


class Raw:
    """A connection that sends exact bytes."""

    def __init__(self, broker, timeout=10):
        self.sock = socket.create_connection(("127.0.0.1", broker.port), timeout=timeout)

    def send(self, data):
        self.sock.sendall(data)

    def send_frame(self, body):
        self.send(struct.pack(">i", len(body)) + body)

    def request(self, key, version, body, correlation=1, client=b"raw", flexible=False):
        head = struct.pack(">hhih", key, version, correlation, len(client)) + client
        self.send_frame(head + (b"\0" if flexible else b"") + body)

    def recv_exact(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise EOFError(f"closed after {len(data)} of {n} bytes")
            data += part
        return data

    def response(self):
        size = struct.unpack(">i", self.recv_exact(4))[0]
        return self.recv_exact(size)

    def closed(self):
        """Whether the broker closes without an answer."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
