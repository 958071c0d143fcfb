"""Requests by hand: record batches as a test wants them, right or wrong, in the last versions that are not "flexible"
(Produce 8, Fetch 11, CreateTopics 4, ...), so that a reader can follow the bytes."""
import ctypes
import struct
import time

from harness import Raw


def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


TABLE = crc32c_table()


try:  # the library that the broker is built with, much faster
    ISAL = ctypes.CDLL("libisal.so.2")
    ISAL.crc32_iscsi.restype = ctypes.c_uint32
    ISAL.crc32_iscsi.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
except OSError:
    ISAL = None


def crc32c(data):
    if ISAL:
        return ISAL.crc32_iscsi(bytes(data), len(data), 0xFFFFFFFF) ^ 0xFFFFFFFF
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def varint(n):
    """Zigzag, as records have it."""
    n = (n << 1 ^ n >> 63) & 0xFFFFFFFFFFFFFFFF
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def record(value, offset_delta=0, key=None, time_delta=0):
    body = b"\0" + varint(time_delta) + varint(offset_delta)
    for field in (key, value):
        body += varint(-1) if field is None else varint(len(field)) + field
    body += varint(0)
    return varint(len(body)) + body


def batch(*values, records=None, pid=-1, epoch=-1, sequence=-1, attributes=0, count=None, last_delta=None, crc=None,
          magic=2, length=None, base_offset=0, timestamp=None):
    """A record batch; every field can be set wrong."""
    if records is None:
        records = b"".join(record(v, i) for i, v in enumerate(values))
    if timestamp is None:
        timestamp = int(time.time() * 1000)
    body = struct.pack(">hiqqqhii", attributes, len(values) - 1 if last_delta is None else last_delta, timestamp, timestamp,
                       pid, epoch, sequence, len(values) if count is None else count) + records
    head = struct.pack(">ibI", -1, magic, crc32c(body) if crc is None else crc)
    return struct.pack(">qi", base_offset, len(head) + len(body) if length is None else length) + head + body


def string(s):
    data = s if isinstance(s, bytes) else s.encode()
    return struct.pack(">h", len(data)) + data


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def get(self, fmt):
        values = struct.unpack_from(">" + fmt, self.data, self.at)
        self.at += struct.calcsize(">" + fmt)
        return values[0] if len(values) == 1 else values

    def bytes(self, n):
        self.at += max(n, 0)
        return None if n < 0 else self.data[self.at - n:self.at]

    def string(self):
        n = self.get("h")
        return None if n < 0 else self.bytes(n).decode()


def produce_body(parts, acks=-1, timeout_ms=30000):
    """parts: [(topic, partition, bytes)]"""
    body = struct.pack(">hhii", -1, acks, timeout_ms, len(parts))
    for topic, partition, data in parts:
        body += string(topic) + struct.pack(">iii", 1, partition, len(data)) + data
    return body


def produce_response(data):
    """[(error, base_offset, log_append_time)] in the order of the request"""
    r = Reader(data)
    r.get("i")
    out = []
    for _ in range(r.get("i")):
        r.string()
        for _ in range(r.get("i")):
            r.get("i")
            error, base, append_time, _ = r.get("hqqq")
            for _ in range(r.get("i")):
                r.get("i"), r.string()
            r.string()
            out.append((error, base, append_time))
    return out


class Client(Raw):
    def call(self, key, version, body):
        self.request(key, version, body)
        return self.response()

    def produce(self, topic, data, partition=0, acks=-1, timeout_ms=30000):
        """(error, base_offset, log_append_time)"""
        return produce_response(self.call(0, 8, produce_body([(topic, partition, data)], acks, timeout_ms)))[0]

    def create(self, *topics, partitions=1, **configs):
        """[error for each topic]; underscores of a config's name stand for dots"""
        body = struct.pack(">i", len(topics))
        for t in topics:
            body += string(t) + struct.pack(">ihii", partitions, 1, 0, len(configs))
            for k, v in configs.items():
                body += string(k.replace("_", ".")) + string(str(v))
        r = Reader(self.call(19, 4, body + struct.pack(">ib", 30000, 0)))
        r.get("ii")
        return [(r.string(), r.get("h"), r.string())[1] for _ in range(r.get("i"))]

    def delete(self, *topics):
        r = Reader(self.call(20, 3, struct.pack(">i", len(topics)) + b"".join(map(string, topics)) + struct.pack(">i", 30000)))
        r.get("ii")
        return [(r.string(), r.get("h"))[1] for _ in range(r.get("i"))]

    def fetch_body(self, topic, offset, partition=0, max_bytes=1 << 20, wait_ms=0, min_bytes=1):
        return (struct.pack(">iiiibiii", -1, wait_ms, min_bytes, max_bytes, 0, 0, -1, 1) + string(topic)
                + struct.pack(">iiiqqi", 1, partition, -1, offset, -1, max_bytes) + struct.pack(">i", 0) + string(""))

    def fetch(self, topic, offset, **kw):
        """(error, high watermark, record bytes)"""
        r = Reader(self.call(1, 11, self.fetch_body(topic, offset, **kw)))
        r.get("iihii")
        r.string()
        r.get("i")
        _, error, high, _, _ = r.get("ihqqq")
        assert r.get("i") <= 0
        r.get("i")
        return error, high, r.bytes(r.get("i"))

    def batches(self, topic, partition=0):
        """Every batch up to the high watermark, as bytes."""
        out, offset = [], 0
        while True:
            error, high, data = self.fetch(topic, offset, partition=partition)
            assert error == 0, (topic, partition, offset, error)
            if offset >= high:
                return out
            assert data, (topic, partition, offset, high)
            while len(data) >= 12 and len(data) >= 12 + struct.unpack_from(">i", data, 8)[0]:
                size = 12 + struct.unpack_from(">i", data, 8)[0]
                one, data = data[:size], data[size:]
                assert struct.unpack_from(">I", one, 17)[0] == crc32c(one[21:]), "wrong CRC of a fetched batch"
                out.append(one)
                offset = struct.unpack_from(">q", one)[0] + struct.unpack_from(">i", one, 23)[0] + 1


def base_offset(data):
    return struct.unpack_from(">q", data)[0]


def codec(data):
    return struct.unpack_from(">h", data, 21)[0] & 7
