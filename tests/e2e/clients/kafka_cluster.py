"""kafka_cluster.py BIN_DIR JARS_DIR: Kafka's command-line tools against three brokers and a fourth that joins, one of them killed: who
leads, who is in sync, elections, reassignments, the quorum. And its verifiable producer, with default settings, over a kill -9."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, ".."))
import harness  # noqa: E402
from cluster import Cluster, killed_at  # noqa: E402
from harness import wait_for  # noqa: E402

harness.use_ports_apart()
bin_dir, jars = sys.argv[1], os.path.abspath(sys.argv[2])
work = tempfile.TemporaryDirectory(prefix="varve-kafka-cluster.")
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]


class Tools:
    """KafkaTools.java with a line of input for each command; what it said until the exit code."""

    def __init__(self, address):
        self.p = subprocess.Popen([*JAVA, "-cp", f"{work.name}:{jars}/*", "KafkaTools", address, work.name], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)

    def __call__(self, line):
        self.p.stdin.write(line + "\n# end\n")
        self.p.stdin.flush()
        said = []
        while True:
            row = self.p.stdout.readline()
            if not row:
                raise AssertionError(f"KafkaTools ended: {said}")
            said.append(row.rstrip("\n"))
            if row.startswith("exit code "):
                return "\n".join(said)

    def until(self, line, *words, without=(), seconds=30):
        """Asks until all of `words` and none of `without` are in what it says."""
        last = {}

        def ask():
            last["said"] = self(line)
            return all(w in last["said"] for w in words) and not any(w in last["said"] for w in without) and last["said"]
        try:
            return wait_for(f"{words} of {line}", ask, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}:\n{last['said']}") from None


def write(name, data):
    with open(os.path.join(work.name, name), "w") as f:
        json.dump(data, f)


def move(name, replicas):
    write(name, {"version": 1, "partitions": [{"topic": "t", "partition": i, "replicas": r} for i, r in enumerate(replicas)]})


def verifiable_producer(c):
    """Acks of every record, one JSON line each; a leader is killed in the middle."""
    with open(os.path.join(work.name, "producer.properties"), "w") as f:  # back to the producer's own defaults: the tool takes retries away
        f.write("retries=2147483647\nenable.idempotence=true\n")
    command = [*JAVA, "-cp", f"{jars}/*", "org.apache.kafka.tools.VerifiableProducer", "--bootstrap-server", c.bootstrap, "--topic", "t",
               "--max-messages", "6000", "--throughput", "500", "--acks", "-1", "--command-config", os.path.join(work.name, "producer.properties")]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rows = []
    reader = threading.Thread(target=lambda: rows.extend(json.loads(x) for x in p.stdout), daemon=True)
    reader.start()
    time.sleep(4)
    victim = c.leader("t")
    killed_at(victim)
    p.wait(120)
    reader.join(10)
    victim.start()
    c.wait_in_sync("t")
    bad = [r for r in rows if r.get("name") == "producer_send_error"]
    acked = {(r["partition"], r["offset"]): r["value"] for r in rows if r.get("name") == "producer_send_success"}
    assert not bad and len(acked) == 6000, (bad[:3], len(acked))
    read = {}
    for line in c.context.varve("consume", "t", "-e", "-f", "%p %o %s\\n", "-b", c.bootstrap).stdout.splitlines():
        partition, offset, value = line.split(" ", 2)
        read[int(partition), int(offset)] = value
    wrong = [(at, v, read.get(at)) for at, v in acked.items() if read.get(at) != v]
    assert not wrong and len(read) == 6000, (wrong[:3], len(read))


def main():
    subprocess.run(["javac", "-cp", f"{jars}/*", "-d", work.name, os.path.join(here, "KafkaTools.java")], check=True)
    ctx = harness.Context(bin_dir, "", False)
    try:
        c = Cluster(ctx)
        c.create("t", partitions=3, min_insync_replicas=2)
        tools = Tools(c.bootstrap)
        said = tools("topics --describe --topic t")
        assert "ReplicationFactor: 3" in said and said.count("Isr: ") == 3, said
        assert "LeaderId:" in tools("metadata-quorum describe --status") and "exit code 0" in tools("metadata-quorum describe --replication")
        verifiable_producer(c)
        killed_at(c.nodes[3])
        tools.until("topics --describe --under-replicated-partitions", "Topic: t\tPartition: 0", "Topic: t\tPartition: 2")
        tools.until("topics --describe --at-min-isr-partitions", "Topic: t")
        c.nodes[3].start()
        tools.until("topics --describe --under-replicated-partitions", without=("Topic: t",))
        tools.until("leader-election --election-type preferred --all-topic-partitions", "exit code 0")
        c.add(4)
        move("there.json", [[4, 1, 2], [4, 2], [3, 4, 1]])
        said = tools("reassign-partitions --execute --reassignment-json-file {DIR}/there.json")
        assert "Successfully started" in said, said
        tools.until("reassign-partitions --verify --reassignment-json-file {DIR}/there.json", "partition t-0 is completed",
                    "partition t-1 is completed", "partition t-2 is completed")
        tools.until("topics --describe --topic t", "Replicas: 4,1,2", "Replicas: 4,2", "Replicas: 3,4,1")
        assert "No partition reassignments found" in tools("reassign-partitions --list")
        said = tools("cluster list-endpoints")
        assert all(n.bootstrap.split(":")[1] in said for n in c.nodes.values()), said
        verifiable = ctx.varve("consume", "t", "-e", "-b", c.bootstrap).stdout.count("\n")
        assert verifiable == 6000, verifiable
        tools.p.stdin.close()
        tools.p.wait(30)
    finally:
        ctx.cleanup()


main()
