/* peer_wire.h - the bytes between brokers. Pure: no I/O, no state; safe on any input.
 *
 * A frame:
 *   magic 4 (F6 'V' 'P' '1')  |  header bytes 4  |  body bytes 4  |  zero 4  |  checksum 8  |  header  |  body
 * Little-endian. The header is a protobuf Frame (proto/peer.proto), the body what its parts carry as plain bytes, one behind
 * the other: records, and the bytes of calls. The checksum is XXH3-64 of everything else. A client's listener reads the first
 * four bytes as a size, which is negative; a peer's refuses whatever begins otherwise.
 *
 * Bounds, checked before anything is allocated: PEER_HELLO_BYTES until the hello was taken, then PEER_HEADER_BYTES and
 * PEER_BODY_BYTES, or, for one batch of records that is larger and alone, what the receiver allows. */
#ifndef SERVER_PEER_WIRE_H
#define SERVER_PEER_WIRE_H
#include <sys/uio.h>
#include "base/arena.h"
#include "base/err.h"
#include "replication/message.h"
#include "server/leaders.h"

enum {
    PEER_HEAD_BYTES = 24,
    PEER_HELLO_BYTES = 4096,             /* header of a hello */
    PEER_HEADER_BYTES = 131072,          /* header; one is closed at half of it */
    PEER_BODY_BYTES = 2097152,           /* body; one is closed at half of it */
    PEER_PART_BYTES = 2048,              /* the largest encoded part, generously */
    PEER_ARENA_BYTES = 16777216,         /* decoded form of a header */
    PEER_VERSION = 1,
    PEER_REFUSED_BYTES = 256,
    PEER_HOST_BYTES = 256
};

/* Why a connection is refused. Numbers of the wire; one that is not known here counts as PEER_REFUSED_OTHER. */
enum peer_refusal {
    PEER_NOT_REFUSED = 0,
    PEER_REFUSED_OTHER = 1,              /* versions, too many brokers */
    PEER_REFUSED_ITSELF = 2,             /* the broker has called itself */
    PEER_REFUSED_SAME_ID = 3,            /* both have one node.id */
    PEER_REFUSED_TWIN = 4,               /* another process with its node.id is alive */
    PEER_REFUSED_WRONG_NODE = 5,         /* somebody else was meant */
    PEER_REFUSED_FOREIGN = 6,            /* it belongs to another cluster */
    PEER_REFUSALS
};

struct peer_head { uint32_t header_bytes, body_bytes; uint64_t checksum; };

enum peer_disk { PEER_DISK_WELL, PEER_DISK_FULL, PEER_DISK_STUCK }; /* server/reconcile.h; as on the wire */

struct peer_hello {
    uint32_t version_min, version_max;
    int32_t node, wanted;
    struct uuid incarnation, cluster_id; /* cluster_id zero: none */
    uint32_t reactor, reactors;
    uint64_t process;                    /* another one for each start; 0: not said */
    char host[PEER_HOST_BYTES];          /* where it listens for other brokers */
    uint16_t port;                       /* 0: not said */
    enum peer_refusal refusal;
    char refused[PEER_REFUSED_BYTES];    /* "": not */
};

enum peer_part_kind { PEER_PART_REPLICA, PEER_PART_LEADER, PEER_PART_CALL, PEER_PART_ANSWER, PEER_PART_PING, PEER_PART_PONG,
                      PEER_PART_BEAT };
struct peer_part {
    enum peer_part_kind kind;
    uint32_t body_at, body_bytes;        /* body_at: in the frame's body, set by decoding */
    uint64_t group;                      /* replica, leader */
    uint32_t from_life, to_life;         /* replica: with the incarnations of the connection's ends, `from` and `to` */
    union {
        struct replica_message replica;  /* `from` and `to` are not set */
        struct leader_info leader;
        struct { uint64_t id; uint32_t kind, total, at; uint64_t timeout_ms; enum err error; } call; /* and answers */
        uint64_t ping;                   /* and pongs */
    } u;
    enum peer_disk disk;                 /* ping */
    int64_t wall_ms;                     /* ping: the sender's wall clock; 0: it does not say */
};

/* A header while parts are added to it. */
struct peer_header { uint8_t *bytes; uint32_t len, cap; };

/* False: no memory, nothing added. */
MUST_CHECK bool peer_part_encode(struct peer_header *h, const struct peer_part *p);
MUST_CHECK bool peer_hello_encode(struct peer_header *h, const struct peer_hello *hello);

void peer_head_write(uint8_t head[PEER_HEAD_BYTES], uint32_t header_bytes, uint32_t body_bytes);  /* checksum: zero */
/* False: not ours (magic, zero). Bounds are the caller's. */
MUST_CHECK bool peer_head_read(const uint8_t head[PEER_HEAD_BYTES], struct peer_head *out);
/* Over the head (without the checksum itself), then `rest`: header and body. */
uint64_t peer_checksum(const uint8_t head[PEER_HEAD_BYTES], const struct iovec *rest, size_t count);

/* The header of a frame whose checksum is right. `*parts` and everything in them is in the arena. ERR_CORRUPT: it contradicts
 * the format: counts, lengths, ranges, bodies that do not add up. ERR_NOMEM: the arena. */
MUST_CHECK enum err peer_frame_decode(struct arena *arena, const uint8_t *header, uint32_t len, uint32_t body_bytes,
                                      struct peer_part **parts, uint32_t *count);
MUST_CHECK enum err peer_hello_decode(struct arena *arena, const uint8_t *header, uint32_t len, struct peer_hello *out);
#endif
