"""Several brokers that form a cluster, on loopback or each in a network namespace of its own, and what is done to them.

Loopback: ports of 127.0.0.1, for everything but cut links. Namespaces: node N has 10.A.B.N on a bridge that the tests' own
namespace is on, too; a cut link loses packets silently, in one direction or both, as a pulled cable does: the neighbour
entry of the other end is set to a hardware address that nobody has, so no sender sees an error."""
import contextlib
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

from harness import Broker, Skip, free_port, run, wait_for
from raw import Reader, string

NOBODY = "02:00:00:00:00:fe"  # a hardware address that no interface has


class Partition:
    def __init__(self, error, leader, epoch, replicas, isr, offline):
        self.error, self.leader, self.epoch = error, leader, epoch
        self.replicas, self.isr, self.offline = replicas, isr, offline

    def __repr__(self):
        return f"leader {self.leader} epoch {self.epoch} replicas {self.replicas} isr {self.isr} offline {self.offline} error {self.error}"


class Metadata:
    """What one broker says: brokers {id: (host, port)}, controller, cluster id, topics {name: {index: Partition}}."""

    def __init__(self, data):
        r = Reader(data)
        r.get("ii")
        ints = lambda: [r.get("i") for _ in range(r.get("i"))]  # noqa: E731
        self.brokers = {}
        for _ in range(r.get("i")):
            node, host, port, _ = r.get("i"), r.string(), r.get("i"), r.string()
            self.brokers[node] = (host, port)
        self.cluster_id, self.controller = r.string(), r.get("i")
        self.topics, self.errors = {}, {}
        for _ in range(r.get("i")):
            self.errors_of = error = r.get("h")
            name = r.string()
            r.get("b")
            parts = {}
            for _ in range(r.get("i")):
                code, index, leader, epoch = r.get("hiii")
                parts[index] = Partition(code, leader, epoch, ints(), ints(), ints())
            self.errors[name] = error
            self.topics[name] = parts


def call(address, key, version, body, timeout=5):
    """One request of a version that is not flexible to (host, port); OSError when nobody answers."""
    with socket.create_connection(address, timeout=timeout) as s:
        head = struct.pack(">hhih", key, version, 1, 4) + b"test"
        s.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        data = b""
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
            part = s.recv(1 << 20)
            if not part:
                raise ConnectionResetError("closed without an answer")
            data += part
        return data[4:]


def metadata(address, topics=None, timeout=5):
    """`topics` None: all of them. Creates none."""
    body = struct.pack(">i", -1) if topics is None else struct.pack(">i", len(topics)) + b"".join(map(string, topics))
    return Metadata(call(address, 3, 7, body + b"\0", timeout))


class Node(Broker):
    """One broker of a cluster; `namespace` None: in this process's own."""

    def __init__(self, context, cluster, node_id, host, port, peer_port, namespace):
        self.cluster, self.id, self.host, self.peer_port, self.namespace = cluster, node_id, host, peer_port, namespace
        self.paused = False
        self.extra = {}  # settings of this node alone
        self.wrapper, self.environment = [], {}
        super().__init__(context, port=port, settings=dict(cluster.settings), start=False)

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def bootstrap(self):
        return f"{self.host}:{self.port}"

    def command(self):
        settings = {**self.cluster.settings_of(self), **self.settings, **self.extra}
        cmd = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        cmd += [*self.wrapper, os.path.join(self.context.bin, "varved"), "--data", self.data, "--listen", self.bootstrap, "--node-id", str(self.id)]
        for key, value in settings.items():
            cmd += ["--set", f"{key}={value}"]
        return cmd + self.args

    def kill9(self):
        super().kill9()
        self.paused = False

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def running(self):
        return self.alive() and not self.paused

    def wipe(self):
        """The disk is lost: the node must be stopped."""
        assert not self.alive()
        shutil.rmtree(self.data, ignore_errors=True)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def destroy(self):
        if self.alive() and self.paused:
            self.resume()
        super().destroy()


class Cluster:
    """Nodes 1..size, all of them voters but for those that add() makes. `settings` are everyone's."""

    numbers = itertools.count(1)

    def __init__(self, context, size=3, settings=None, namespaces=False, start=True):
        self.context, self.settings = context, dict(settings or {})
        self.nodes, self.voters, self.bridge = {}, [], None
        if context.io:
            self.settings.setdefault("io.backend", context.io)
        if namespaces:
            self.make_bridge()
        for node_id in range(1, size + 1):
            self.make_node(node_id)
            self.voters.append(node_id)
        if start:
            self.start()

    def make_node(self, node_id):
        host, namespace = "127.0.0.1", None
        if self.bridge:
            host, namespace = f"{self.subnet}.{node_id}", self.make_namespace(node_id)
        port, peer = (9092, 9093) if namespace else (free_port(), free_port())
        node = Node(self.context, self, node_id, host, port, peer, namespace)
        self.nodes[node_id] = node
        self.context.brokers.append(node)
        return node

    def settings_of(self, node):
        entry = lambda n: f"{n.host}:{n.peer_port}"  # noqa: E731
        settings = {}
        if self.bridge:
            settings["allow.insecure"] = "true"
        if node.id in self.voters:
            settings["controller.quorum.voters"] = ",".join(f"{i}@{entry(self.nodes[i])}" for i in self.voters)
        else:
            settings["controller.quorum.bootstrap.servers"] = ",".join(entry(self.nodes[i]) for i in self.voters)
            settings["peer.listen"] = entry(node)
        return settings

    # ---- all of them

    def start(self, seconds=60):
        for node in self.nodes.values():
            if not node.alive():
                node.spawn()
        self.wait_formed(seconds)
        return self

    def add(self, node_id, seconds=60):
        """A node that is no voter joins."""
        node = self.make_node(node_id)
        node.spawn()
        self.wait_formed(seconds)
        return node

    def wait_formed(self, seconds=60):
        """Every running node shows every running node, and the same controller."""
        want = {n.id for n in self.nodes.values() if n.running()}

        def formed():
            seen = set()
            for node_id in want:
                node = self.nodes[node_id]
                if not node.alive():
                    raise AssertionError(f"node {node_id} exited with {node.process.returncode}:\n{node.trace()[-4000:]}")
                m = self.metadata(node)
                if not m or not want <= set(m.brokers) or m.controller not in want:
                    return False
                seen.add((m.cluster_id, m.controller))
            return len(seen) == 1
        wait_for(f"a cluster of nodes {sorted(want)}", formed, seconds)

    @property
    def bootstrap(self):
        return ",".join(n.bootstrap for n in self.nodes.values())

    def running(self):
        return [n for n in self.nodes.values() if n.running()]

    def kill_all(self):
        for node in self.nodes.values():
            if node.alive():
                node.process.kill()
        for node in self.nodes.values():
            if node.process and node.process.returncode is None:
                node.kill9()

    # ---- what they say

    def metadata(self, node, topics=None):
        """None: it does not answer."""
        with contextlib.suppress(OSError, struct.error):
            return metadata(node.address, topics)
        return None

    def any_metadata(self, topics=None, but=()):
        for node in self.running():
            m = None if node in but else self.metadata(node, topics)
            if m:
                return m
        return None

    def partition(self, topic, index=0, but=()):
        m = self.any_metadata([topic], but)
        return m.topics.get(topic, {}).get(index) if m else None

    def leader(self, topic, index=0, seconds=30, but=()):
        """The node that leads the partition, a running one."""
        def known():
            p = self.partition(topic, index, but)
            return p and self.nodes.get(p.leader) and self.nodes[p.leader].running() and self.nodes[p.leader] not in but and self.nodes[p.leader]
        return wait_for(f"a leader of {topic}-{index}", known, seconds)

    def controller(self, seconds=30):
        def known():
            m = self.any_metadata([])
            return m and self.nodes.get(m.controller) and self.nodes[m.controller].running() and self.nodes[m.controller]
        return wait_for("a controller", known, seconds)

    def wait_in_sync(self, *topics, seconds=60):
        """Every partition of these topics (none given: of all) has a leader and all its replicas in sync, by every node's word."""
        last = {}

        def in_sync():
            for node in self.running():
                m = self.metadata(node, list(topics) or None)
                if not m:
                    last["why"] = f"node {node.id} does not answer"
                    return False
                for name, parts in m.topics.items():
                    for index, p in parts.items():
                        if p.leader not in p.replicas or sorted(p.isr) != sorted(p.replicas):
                            last["why"] = f"node {node.id}: {name}-{index}: {p}"
                            return False
                if any(not m.topics.get(t) for t in topics):
                    last["why"] = f"node {node.id} does not know {topics}"
                    return False
            return True
        try:
            wait_for("all replicas in sync", in_sync, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}: {last.get('why')}") from None

    def create(self, topic, partitions=1, replicas=3, **configs):
        args = [f"--config={k.replace('_', '.')}={v}" for k, v in configs.items()]
        self.context.varve("topic", "create", topic, "--partitions", partitions, "--replication-factor", replicas, *args, "-b", self.bootstrap)
        self.wait_in_sync(topic)

    # ---- links, in namespaces

    def ip(self, *args, check=True):
        return run(["ip", *map(str, args)], check=check)

    def make_bridge(self):
        if os.geteuid() != 0:
            raise Skip("network namespaces need root")
        if not shutil.which("ip"):
            raise Skip("network namespaces need iproute2")
        number, pid = next(self.numbers), os.getpid()
        self.tag = f"v{pid % 100000}x{number}"
        self.subnet = f"10.{64 + pid % 128}.{(pid // 128 + number) % 256}"
        try:
            self.ip("link", "add", self.tag, "type", "bridge")
        except AssertionError as e:
            raise Skip(f"no bridge can be made: {str(e).splitlines()[-1]}") from None
        self.bridge = self.tag
        self.ip("addr", "add", f"{self.subnet}.254/24", "dev", self.bridge)
        self.ip("link", "set", self.bridge, "up")
        self.context.clusters.append(self)

    def make_namespace(self, node_id):
        name, outer, inner = f"{self.tag}n{node_id}", f"{self.tag}o{node_id}"[:15], "eth0"
        try:
            self.ip("netns", "add", name)
        except AssertionError as e:
            raise Skip(f"no network namespace can be made: {str(e).splitlines()[-1]}") from None
        self.ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        self.ip("link", "set", outer, "master", self.bridge, "up")
        self.ip("-n", name, "addr", "add", f"{self.subnet}.{node_id}/24", "dev", inner)
        self.ip("-n", name, "link", "set", inner, "up")
        self.ip("-n", name, "link", "set", "lo", "up")
        return name

    def cut_one_way(self, a, b):
        """What a sends to b is lost; what b sends to a arrives."""
        self.ip("-n", a.namespace, "neigh", "replace", b.host, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")

    def cut(self, node, others=None):
        """Between `node` and `others` (all other nodes) nothing arrives. Clients still reach it."""
        for other in others if others is not None else self.nodes.values():
            if other is not node:
                self.cut_one_way(node, other)
                self.cut_one_way(other, node)

    def cut_off(self, node):
        """The cable is pulled: nobody reaches it, clients neither."""
        self.ip("link", "set", f"{self.tag}o{node.id}"[:15], "down")

    def heal(self):
        for node in self.nodes.values():
            self.ip("link", "set", f"{self.tag}o{node.id}"[:15], "up")
            for other in self.nodes.values():
                if other is not node:
                    self.ip("-n", node.namespace, "neigh", "del", other.host, "dev", "eth0", check=False)

    def destroy(self):
        for node in self.nodes.values():
            if node.alive():
                node.kill9()
            if node.namespace:
                self.ip("netns", "del", node.namespace, check=False)
        if self.bridge:
            self.ip("link", "del", self.bridge, check=False)


def pause_until(deadline):
    time.sleep(max(0.0, deadline - time.monotonic()))


def killed_at(node):
    """kill -9, and the moment it was."""
    at = time.monotonic()
    node.process.kill()
    node.kill9()
    return at


__all__ = ["Cluster", "Metadata", "Node", "Partition", "call", "killed_at", "metadata", "pause_until", "subprocess"]
