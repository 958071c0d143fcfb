"""Producers that write down every acknowledged record, and the judgement at the end: nothing acknowledged may be lost, nothing may be
there twice, nothing out of order, and each record lies at the offset that was told.

Every value is "PRODUCER:SEQUENCE" and some padding. Three kinds of client: librdkafka through Python (idempotent, several threads),
kcat (whose exit code acknowledges all of a part), and requests by hand, which are sent again with their sequence number."""
import collections
import contextlib
import math
import socket
import struct
import subprocess
import threading
import time

from cluster import metadata
from harness import Skip
from raw import Client, Reader, batch, string

try:
    import confluent_kafka
except ImportError:
    confluent_kafka = None

Ack = collections.namedtuple("Ack", "time topic partition offset value")
RETRIABLE = {3, 5, 6, 7, 8, 13, 14, 19, 20, 56, 74, 76}  # Kafka's error codes that a producer answers with another attempt


def need_confluent():
    if confluent_kafka is None:
        raise Skip("python3-confluent-kafka is not installed")


class Record:
    def __init__(self):
        self.acks, self.failures, self.lock = [], [], threading.Lock()

    def ack(self, topic, partition, offset, value):
        with self.lock:
            self.acks.append(Ack(time.monotonic(), topic, partition, offset, value))

    def fail(self, who, what):
        with self.lock:
            self.failures.append((time.monotonic(), who, what))


class Producer(threading.Thread):
    """Runs until stop(); `who` is in every value."""

    def __init__(self, history, bootstrap, topic, who, rate=200, padding=50):
        super().__init__(daemon=True)
        self.history, self.bootstrap, self.topic, self.who = history, bootstrap, topic, who
        self.pause, self.padding = 1.0 / rate, "x" * padding
        self.over, self.error, self.sent = threading.Event(), None, 0

    def value(self):
        self.sent += 1
        return f"{self.who}:{self.sent}:{self.padding}"

    def run(self):
        try:
            self.produce()
        except BaseException as e:  # told by stop()
            self.error = e

    def stop(self, seconds=180):
        self.over.set()
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"producer {self.who} does not end")
        if self.error:
            raise self.error


class Confluent(Producer):
    """librdkafka with its own retry settings. Keys spread the records over all partitions."""

    def __init__(self, *args, config=None, **kw):
        super().__init__(*args, **kw)
        need_confluent()
        self.config = {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1, **(config or {})}

    def produce(self):
        p = confluent_kafka.Producer({**self.config, "log_level": 0})

        def report(value):
            def done(err, msg):
                if err is not None:
                    self.history.fail(self.who, str(err))
                else:
                    self.history.ack(msg.topic(), msg.partition(), msg.offset(), value)
            return done
        due = time.monotonic()
        while not self.over.is_set():
            value = self.value()
            try:
                p.produce(self.topic, value.encode(), key=str(self.sent).encode(), on_delivery=report(value))
            except BufferError:
                self.sent -= 1
                p.poll(0.05)
                continue
            due = max(due + self.pause, time.monotonic() - 0.1)
            while True:
                left = due - time.monotonic()
                p.poll(max(left, 0))
                if due <= time.monotonic():
                    break
        if p.flush(150) > 0:
            raise AssertionError(f"producer {self.who}: {len(p)} records without an answer after 150 s")


class Raw(Producer):
    """One record at a time to one partition, idempotent by hand: a request whose fate is open goes again with the same sequence."""

    def __init__(self, *args, partition=0, timeout=2.0, **kw):
        super().__init__(*args, **kw)
        self.partition, self.timeout = partition, timeout
        self.addresses = [(h, int(p)) for h, p in (a.rsplit(":", 1) for a in self.bootstrap.split(","))]
        self.connection = None

    def any_metadata(self):
        for i in range(len(self.addresses)):
            with contextlib.suppress(OSError, struct.error):
                return metadata(self.addresses[i], [self.topic], 1.0)
        return None

    def connect(self):
        m = self.any_metadata()
        part = m and m.topics.get(self.topic, {}).get(self.partition)
        if not part or part.leader not in m.brokers:
            return False
        with contextlib.suppress(OSError):
            self.connection = Client.__new__(Client)
            self.connection.sock = socket.create_connection(m.brokers[part.leader], timeout=self.timeout)
            return True
        self.connection = None
        return False

    def disconnect(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def producer_id(self):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for address in self.addresses:
                with contextlib.suppress(OSError, struct.error):
                    with socket.create_connection(address, timeout=self.timeout) as s:
                        c = Client.__new__(Client)
                        c.sock = s
                        r = Reader(c.call(22, 1, struct.pack(">hi", -1, 60000)))
                        r.get("i")
                        r.get("i")
                        error, pid, epoch = r.get("hqh")
                        if error == 0:
                            return pid, epoch
            time.sleep(0.05)
        raise AssertionError(f"producer {self.who} got no producer id in 60 s")

    def produce(self):
        pid, epoch = self.producer_id()
        sequence = 0
        while not self.over.is_set():
            value = self.value()
            offset = self.send(batch(value.encode(), pid=pid, epoch=epoch, sequence=sequence))
            if offset >= 0:
                self.history.ack(self.topic, self.partition, offset, value)
            sequence += 1
            self.over.wait(self.pause)
        self.disconnect()

    def send(self, data):
        """Until it is acknowledged: its offset (-1: it is in, but where is forgotten)."""
        end = time.monotonic() + 120
        last = None
        while time.monotonic() < end:
            if not self.connection and not self.connect():
                time.sleep(0.02)
                continue
            try:
                error, offset, _ = self.connection.produce(self.topic, data, self.partition, timeout_ms=int(self.timeout * 1000))
            except (OSError, EOFError) as e:
                last = e
                self.disconnect()
                continue
            if error == 0:
                return offset
            if error == 46:  # DUPLICATE_SEQUENCE_NUMBER
                return -1
            last = error
            if error not in RETRIABLE:
                raise AssertionError(f"producer {self.who}: error {error}, which no client answers with another attempt")
            self.disconnect()
            time.sleep(0.02)
        raise AssertionError(f"producer {self.who}: no success in 120 s, last: {last}")


class Kcat(Producer):
    """Parts of some lines; a part whose kcat exits with 0 is acknowledged, and no part is sent twice."""

    def produce(self):
        while not self.over.is_set():
            values = [self.value() for _ in range(200)]
            p = subprocess.Popen(["kcat", "-b", self.bootstrap, "-P", "-t", self.topic, "-X", "enable.idempotence=true", "-X", "log_level=0"],
                                 stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with contextlib.suppress(BrokenPipeError):
                for i, v in enumerate(values):
                    p.stdin.write(v + "\n")
                    if i % 20 == 19:
                        p.stdin.flush()
                        time.sleep(self.pause * 20)
            with contextlib.suppress(BrokenPipeError):
                p.stdin.close()
            p.stdin = None
            _, err = p.communicate(timeout=330)
            if p.returncode == 0:
                for v in values:
                    self.history.ack(self.topic, None, None, v)
            else:
                self.history.fail(self.who, err.strip()[-300:])


def end_of(consumer, part, seconds=20):
    """Its library does not ask again when the leader has changed since it looked (preferred leaders return at any time)."""
    end = time.monotonic() + seconds
    while True:
        try:
            return consumer.get_watermark_offsets(part, timeout=30)[1]
        except confluent_kafka.KafkaException as e:
            if not e.args[0].retriable() and e.args[0].code() != confluent_kafka.KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > end:
                raise
            time.sleep(0.1)
            consumer.list_topics(part.topic, timeout=30)


def read_all(bootstrap, topics, seconds=60):
    """{(topic, partition): [(offset, value)]} of all that can be read, up to the ends as they are told now."""
    need_confluent()
    c = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": "checker", "enable.auto.commit": False, "log_level": 0,
                                  "auto.offset.reset": "earliest", "enable.partition.eof": True, "check.crcs": True})
    try:
        parts = []
        for topic in topics:
            meta = c.list_topics(topic, timeout=30).topics[topic]
            parts += [confluent_kafka.TopicPartition(topic, i, 0) for i in meta.partitions]
        out = {(p.topic, p.partition): [] for p in parts}
        ends = {(p.topic, p.partition): end_of(c, p) for p in parts}
        waiting = {at for at, end in ends.items() if end > 0}
        c.assign(parts)
        end = time.monotonic() + seconds
        while waiting:
            for m in c.consume(1000, 0.5):
                if m.error() is None:
                    at = m.topic(), m.partition()
                    out[at].append((m.offset(), m.value().decode()))
                    if m.offset() + 1 >= ends[at]:
                        waiting.discard(at)
                elif m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    waiting.discard((m.topic(), m.partition()))
            if time.monotonic() > end:
                raise AssertionError(f"reading did not come to the end of {sorted(waiting)} in {seconds} s")
        return out
    finally:
        c.close()


def judge(history, read, idempotent=True):
    """A list of sentences about what is wrong; empty: all well."""
    wrong = []
    places = collections.defaultdict(list)
    for (topic, partition), records in read.items():
        last = {}
        expected = None
        for offset, value in records:
            if expected is not None and offset != expected:
                wrong.append(f"{topic}-{partition}: offset {offset} follows {expected - 1}")
            expected = offset + 1
            places[topic, value].append((partition, offset))
            who, sequence = value.split(":", 2)[:2]
            if int(sequence) <= last.get(who, 0) and len(places[topic, value]) == 1:
                wrong.append(f"reordered: {topic}-{partition}@{offset}: {who}:{sequence} behind {who}:{last[who]}")
            last[who] = max(int(sequence), last.get(who, 0))
    told = {}
    for ack in history.acks:
        at = places.get((ack.topic, ack.value))
        short = ack.value.rsplit(":", 1)[0]
        if not at:
            wrong.append(f"lost: {ack.topic}-{ack.partition}@{ack.offset}: {short}, acknowledged at {ack.time:.3f}")
        elif ack.partition is not None and ack.offset >= 0 and (ack.partition, ack.offset) not in at:
            wrong.append(f"inconsistent: {short} was acknowledged at {ack.topic}-{ack.partition}@{ack.offset} and lies at {at}")
        if ack.partition is not None and ack.offset >= 0:
            other = told.setdefault((ack.topic, ack.partition, ack.offset), ack.value)
            if other != ack.value:
                wrong.append(f"inconsistent: {ack.topic}-{ack.partition}@{ack.offset} was told for {short} and {other.rsplit(':', 1)[0]}")
    if idempotent:
        for (topic, value), at in places.items():
            if len(at) > 1:
                wrong.append(f"duplicated: {value.rsplit(':', 1)[0]} of {topic} lies at {at}")
    return wrong


def gap(history, topic, at, window=10.0, partition=None):
    """Seconds of the longest silence that begins within `window` of `at`, counted from `at` on: how long nothing was acknowledged."""
    times = sorted(a.time for a in history.acks if a.topic == topic and a.time > at - 1 and partition in (None, a.partition))
    gaps = [after - max(before, at) for before, after in zip(times, times[1:]) if after > at and before <= at + window]
    return max(gaps, default=math.inf)


def percentile(values, p):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(p / 100 * len(ordered)) - 1)] if ordered else math.nan


def summary(gaps):
    return f"{len(gaps)} times: p50 {percentile(gaps, 50) * 1000:.0f} ms, p99 {percentile(gaps, 99) * 1000:.0f} ms, max {max(gaps) * 1000:.0f} ms"


class Load:
    """Producers of all kinds on one topic: `with Load(cluster, "t") as load: ...`, then load.check()."""

    def __init__(self, cluster, topic, threads=2, raw=1, kcat=0, rate=200, config=None):
        self.cluster, self.topic, self.history = cluster, topic, Record()
        args = (self.history, cluster.bootstrap, topic)
        self.producers = [Confluent(*args, f"c{i}", rate=rate, config=config) for i in range(threads)]
        partitions = len(cluster.any_metadata([topic]).topics[topic])
        self.producers += [Raw(*args, f"r{i}", rate=rate, partition=i % partitions) for i in range(raw)]
        self.producers += [Kcat(*args, f"k{i}", rate=rate) for i in range(kcat)]

    def __enter__(self):
        for p in self.producers:
            p.start()
        self.wait_acks(20)
        return self

    def __exit__(self, kind, *_):
        for p in self.producers:
            p.over.set()
        if kind is None:
            for p in self.producers:
                p.stop()

    def acks(self):
        return len(self.history.acks)

    def wait_acks(self, more, seconds=60):
        """Until that many more records are acknowledged."""
        end, want = time.monotonic() + seconds, self.acks() + more
        while self.acks() < want:
            for p in self.producers:
                if p.error:
                    raise p.error
            if time.monotonic() > end:
                raise AssertionError(f"{self.acks() - want + more} of {more} records were acknowledged in {seconds} s; failures: {self.history.failures[-3:]}")
            time.sleep(0.01)

    def gap(self, at, window=10.0, partition=None):
        return gap(self.history, self.topic, at, window, partition)

    def judge_now(self):
        """check() while the producers go on: of what was acknowledged until now."""
        snapshot = Record()
        with self.history.lock:
            snapshot.acks, snapshot.failures = list(self.history.acks), list(self.history.failures)
        self.verdict(snapshot, 0)

    def check(self, failures=0):
        """Reads everything and judges. Returns how many were acknowledged."""
        self.verdict(self.history, failures)
        return self.acks()

    def verdict(self, history, failures):
        wrong = judge(history, read_all(self.cluster.bootstrap, [self.topic]))
        if len(history.failures) > failures:
            wrong.append(f"{len(history.failures)} sends failed, the first: {history.failures[0]}")
        if wrong:
            raise AssertionError(f"{len(wrong)} wrong of {len(history.acks)} acknowledged:\n  " + "\n  ".join(wrong[:30]))
