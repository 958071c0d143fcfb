"""Apache Kafka in the place of our brokers, for comparisons: three combined nodes of KRaft from a folder of its jars, with what its start script
sets. `Kafka(context, jars)` is a Cluster; what it cannot do is done by the kernel (kill -9, SIGSTOP) in the same way."""
import os
import subprocess

from cluster import Cluster, Node
from harness import free_port, wait_for

START_SCRIPT = ["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
                "-Djava.awt.headless=true"]


class KafkaNode(Node):
    def command(self):
        return ["java", *START_SCRIPT, "-cp", f"{self.cluster.jars}/*", "kafka.Kafka", self.properties()]

    def properties(self):
        path = os.path.join(self.root, "server.properties")
        lines = {"process.roles": "broker,controller", "node.id": self.id,
                 "controller.quorum.voters": ",".join(f"{n.id}@{n.host}:{n.peer_port}" for n in self.cluster.nodes.values()),
                 "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{self.host}:{self.peer_port}",
                 "controller.listener.names": "CONTROLLER",
                 "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "log.dirs": self.data,
                 **self.settings}
        with open(path, "w") as f:
            f.writelines(f"{k}={v}\n" for k, v in lines.items())
        return path

    def spawn(self):
        if not os.path.exists(self.data):
            subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{self.cluster.jars}/*", "kafka.tools.StorageTool", "format",
                            "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", self.properties()], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        super().spawn()

    def wait_ready(self, seconds=0):
        wait_for(f"Kafka's node {self.id}", lambda: self.cluster.metadata(self), max(seconds, 120))


class Kafka(Cluster):
    def __init__(self, context, jars, size=3, settings=None):
        self.jars = os.path.abspath(jars)
        super().__init__(context, size, settings)

    def make_node(self, node_id):
        node = KafkaNode(self.context, self, node_id, "127.0.0.1", free_port(), free_port(), None)
        node.settings.pop("io.backend", None)
        self.nodes[node_id] = node
        self.context.brokers.append(node)
        return node

    def start(self, seconds=120):
        return super().start(seconds)

    def wait_formed(self, seconds=120):
        """Every running node shows every running node; whom they name as the controller is drawn by lot."""
        want = {n.id for n in self.nodes.values() if n.running()}

        def formed():
            for node_id in want:
                node = self.nodes[node_id]
                if not node.alive():
                    raise AssertionError(f"node {node_id} exited with {node.process.returncode}:\n{node.trace()[-4000:]}")
                m = self.metadata(node)
                if not m or set(m.brokers) != want:
                    return False
            return True
        wait_for(f"a cluster of nodes {sorted(want)}", formed, seconds)

