"""The network between brokers, as a proxy in front of each one's listener for the others: it delays, resets and goes silent.

    wires = Wires(cluster)          # before the cluster starts
    wires.rule = delayed(0.1, 0.3)  # at any time; of what goes either way between any two brokers

A rule is asked for each connection, once: it returns a function of (bytes so far in this direction, piece) that says what becomes of
the piece: seconds to wait before it goes on, RESET, or SILENCE (nothing arrives any more, and nobody is told)."""
import asyncio
import random
import socket
import struct
import threading

from harness import free_port

RESET, SILENCE = "reset", "silence"


def whole():
    return lambda so_far, piece: 0


def delayed(least, most, dice=random.Random(1)):
    """Every piece so late, in order."""
    return lambda: lambda so_far, piece: dice.uniform(least, most)


def reset_after(counter):
    """Connection number n is reset when n bytes have gone one way; each of its bytes is a place where one ends."""
    def rule():
        limit = next(counter)
        return lambda so_far, piece: RESET if so_far + len(piece) > limit else 0
    return rule


def silent():
    return lambda so_far, piece: SILENCE


class Wires:
    def __init__(self, cluster):
        self.rule, self.resets, self.open, self.loop = whole, 0, set(), asyncio.new_event_loop()
        self.ready = threading.Event()
        self.fronts = []
        for node in cluster.nodes.values():
            real, node.peer_port = node.peer_port, free_port()
            node.extra["peer.listen"] = f"{node.host}:{real}"  # the others are told of the proxy
            self.fronts.append((node.peer_port, real))
        cluster.context.clusters.append(self)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    def run(self):
        asyncio.set_event_loop(self.loop)
        for front, real in self.fronts:
            self.loop.run_until_complete(asyncio.start_server(lambda r, w, real=real: self.connection(r, w, real), "127.0.0.1", front))
        self.loop.call_soon(self.ready.set)
        self.loop.run_forever()

    async def connection(self, reader, writer, real):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", real)
        except OSError:
            self.end((writer,))
            return
        both = writer, far_writer
        self.open.add(both)
        await asyncio.wait([asyncio.ensure_future(self.pump(reader, far_writer, both)), asyncio.ensure_future(self.pump(far_reader, writer, both))])
        self.open.discard(both)

    async def pump(self, reader, writer, both):
        so_far, made_by, fate = 0, None, None
        try:
            while piece := await reader.read(65536):
                if made_by is not self.rule:
                    made_by, fate, so_far = self.rule, self.rule(), 0
                what = fate(so_far, piece)
                if what == RESET:
                    self.resets += 1
                    break
                if what == SILENCE:
                    continue
                if what > 0:
                    await asyncio.sleep(what)
                so_far += len(piece)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass
        self.end(both)

    def end(self, writers):
        """With RST, as when a machine in between has forgotten the connection."""
        for w in writers:
            s = w.get_extra_info("socket")
            if s is not None and s.fileno() >= 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            w.transport.abort()

    def connections(self):
        return len(self.open)

    def destroy(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
