"""What an operator meets: wrong settings, two brokers, start and stop."""
import os
import re
import subprocess

from harness import Raw, Skip, kcat, run, wait_for


def refused(b, *words):
    b.spawn()
    code = b.process.wait(30)
    text = b.trace()
    assert code not in (0, -6, -11), (code, text)
    for w in words:
        assert w in text, f"expected {w!r} in:\n{text}"


def test_second_broker_on_the_directory(ctx):
    b = ctx.broker()
    refused(ctx.broker(data=b.data, start=False), b.data)
    kcat("-b", b.bootstrap, "-L")


def test_port_taken(ctx):
    b = ctx.broker()
    refused(ctx.broker(port=b.port, start=False), str(b.port))
    kcat("-b", b.bootstrap, "-L")


def test_unknown_setting_names_the_nearest(ctx):
    refused(ctx.broker(settings={"log.retention.hour": 1}, start=False), "log.retention.hour", "log.retention.hours")


def test_bad_value(ctx):
    refused(ctx.broker(settings={"num.partitions": "many"}, start=False), "num.partitions", "many")


def test_listens_beyond_loopback_only_on_request(ctx):
    b = ctx.broker(start=False)
    cmd = [os.path.join(ctx.bin, "varved"), "--data", b.data, "--listen", f"0.0.0.0:{b.port}"]
    p = subprocess.run(cmd, capture_output=True, text=True, timeout=30)
    assert p.returncode != 0 and "allow.insecure" in p.stderr + p.stdout, p
    b.args = ["--listen", f"0.0.0.0:{b.port}"]
    b.settings["allow.insecure"] = "true"
    b.start()
    # With a wildcard address clients are told the address that they connected to.
    out = kcat("-b", b.bootstrap, "-L").stdout
    assert b.bootstrap in out, out


def test_config_file_and_flags(ctx):
    b = ctx.broker(start=False)
    path = os.path.join(b.root, "server.properties")
    with open(path, "w") as f:
        f.write("# as people have them\nnum.partitions=5\nnum.network.threads=3\nlog.retention.hours=168\n")
    b.args = [path]
    b.start()
    kcat("-b", b.bootstrap, "-P", "-t", "five", input="x\n")
    assert "5 partitions" in kcat("-b", b.bootstrap, "-L", "-t", "five").stdout
    assert "num.network.threads" in b.trace(), b.trace()


def test_start_lines_and_clean_stop(ctx):
    b = ctx.broker()
    text = b.trace()
    for word in (str(b.port), b.data):
        assert word in text, f"{word!r} missing from the start lines:\n{text}"
    assert re.search("io_uring|blocking", text), text
    assert b.stop() == 0, b.trace()[-1000:]


def test_without_io_uring(ctx):
    """Containers forbid io_uring: the broker says so and works. A seccomp filter plays the container."""
    wrapper = os.path.join(ctx.bin, "no-uring")
    if not os.path.exists(wrapper):
        raise Skip("the seccomp wrapper was not built")
    b = ctx.broker(start=False)
    b.settings.pop("io.backend", None)
    plain = b.command
    b.command = lambda: [wrapper, *plain()]
    b.start()
    assert "blocking" in b.trace(), b.trace()
    kcat("-b", b.bootstrap, "-P", "-t", "t", input="a\nb\n")
    b.kill9()
    b.start()
    assert kcat("-b", b.bootstrap, "-C", "-t", "t", "-e", "-q").stdout == "a\nb\n"


def test_full_disk_refuses_and_goes_on(ctx):
    """A reserve larger than the disk: records are refused with a clear error, reads go on."""
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "d", input="kept\n")
    assert b.stop() == 0
    b.settings["disk.reserve.bytes"] = 1 << 60
    b.start()
    p = kcat("-b", b.bootstrap, "-P", "-t", "d", "-X", "message.timeout.ms=4000", input="more\n", check=False)
    assert p.returncode != 0, p
    assert kcat("-b", b.bootstrap, "-C", "-t", "d", "-e", "-q").stdout == "kept\n"
    wait_for("a line about the disk", lambda: "disk" in b.trace().lower(), 10)


def test_version_and_help(ctx):
    for name in ("varved", "varve"):
        assert "--help" in run([os.path.join(ctx.bin, name), "--help"]).stdout
        assert re.search(r"\d+\.\d+", run([os.path.join(ctx.bin, name), "--version"]).stdout)
    assert run([os.path.join(ctx.bin, "varve"), "nonsense"], check=False).returncode == 2
    assert ctx.varve("topic", "list", "-b", "127.0.0.1:1", check=False).returncode == 75
