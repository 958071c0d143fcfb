/* unpack.h - protobuf messages of other brokers, in calls, in the metadata log and in files, unpacked into bounded memory.
 *
 * A few bytes can stand for a structure many times as large (an empty element of a list is two), so who unpacks says how much the
 * structures may take; the bytes of strings and blobs are no larger than the message. Everything lies in the arena: no
 * free_unpacked, arena_free() when done. Any thread. */
#ifndef PROTO_UNPACK_H
#define PROTO_UNPACK_H
#include <protobuf-c/protobuf-c.h>
#include "base/arena.h"
#include "base/bytes.h"

/* What the structures of each message may take. An element of a list costs its struct (48 bytes or so), a pointer, up to 80 bytes while
 * it is parsed, and what its fields round up to 16. */
enum {
    UNPACK_BYTES = 16384,                /* a message with at most ten or so small parts: FormAnswer, RegisterAnswer, a range, a metadata record */
    UNPACK_ELEMENT_BYTES = 256           /* and for each element of a list that may be long */
};

/* Inits `a`, in any case. NULL: it does not parse, or takes more than `structs` and the length of the message. */
void *unpack(struct arena *a, const ProtobufCMessageDescriptor *d, struct bytes message, size_t structs);
#endif
