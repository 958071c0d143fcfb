#!/usr/bin/python3
"""A well-behaved client in a process of its own: writes a record (acks=all) and reads it back, again and again.
Prints a line "SECONDS MILLISECONDS" for each round; ends when stdin does; any error is its last words and exit code 1."""
import os
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from raw import Client, batch  # noqa: E402


class Port:
    def __init__(self, port):
        self.port = port


def main():
    port, topic, pause = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    with Client(Port(port), timeout=30) as c:
        while not over.is_set():
            begun = time.monotonic()
            error, offset, _ = c.produce(topic, batch(b"steady"))
            assert error == 0, error
            error, _, data = c.fetch(topic, offset, max_bytes=65536)
            assert error == 0 and data, (error, offset)
            print(f"{begun:.6f} {(time.monotonic() - begun) * 1000:.3f}", flush=True)
            over.wait(pause)


main()
