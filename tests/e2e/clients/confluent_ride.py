"""A producer and a group's members of librdkafka through confluent-kafka, with its defaults but idempotence, for ride.py, which says what
they print."""
import sys
import threading
import time

from confluent_kafka import Consumer, Producer

bootstrap, topic, who = sys.argv[1:4]
partitions, rate = int(sys.argv[4]), int(sys.argv[5])
stop, over, lock = threading.Event(), threading.Event(), threading.Lock()


def say(line):
    with lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def member(name):
    try:
        c = Consumer({"bootstrap.servers": bootstrap, "group.id": who, "auto.offset.reset": "earliest", "client.id": f"member-{name}",
                      "debug": "cgrp"})  # a few lines a second, for the one time that it reads nothing
        c.subscribe([topic], on_assign=lambda _, p: say(f"assigned {name} {len(p)}"), on_revoke=lambda _, p: say(f"revoked {name} {len(p)}"),
                    on_lost=lambda _, p: say(f"lost {name} {len(p)}"))
        while not over.is_set():
            m = c.poll(0.1)
            if m is not None and not m.error():
                say(f"read {name} {m.partition()} {m.offset()} {m.value().decode()}")
        c.close()
    except BaseException as e:
        say(f"broken {name} {e!r}")


def acked(value):
    def done(err, m):
        say(f"failed {value} {err}" if err else f"acked {time.monotonic_ns() // 1000} {m.partition()} {m.offset()} {value}")
    return done


def produce():
    p = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    sequence, due = 0, time.monotonic()
    while not stop.is_set():
        sequence += 1
        value = f"{who}:{sequence}:"
        p.produce(topic, value.encode(), partition=sequence % partitions, on_delivery=acked(value))
        due = max(due + 1 / rate, time.monotonic() - 0.1)
        while (left := due - time.monotonic()) > 0:
            p.poll(left)
        p.poll(0)
    p.flush()


threads = [threading.Thread(target=member, args=(name,)) for name in "12"]
producer = threading.Thread(target=produce)
for t in (*threads, producer):
    t.start()
sys.stdin.readline()
stop.set()
producer.join()
say("produced")
sys.stdin.read()
over.set()
for t in threads:
    t.join()
