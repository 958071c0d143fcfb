/* unpack.c - see unpack.h. */
#include "proto/unpack.h"
#include "base/compiler.h"

static void *take(void *arena, size_t size) { return arena_alloc(arena, size); }
static void give_back(void *arena, void *pointer) { (void)arena, (void)pointer; }

void *unpack(struct arena *a, const ProtobufCMessageDescriptor *d, struct bytes message, size_t structs) {
    size_t len = (size_t)MAX(message.len, 0);
    ProtobufCAllocator allocator = {take, give_back, a};
    arena_init(a, structs + len);
    return protobuf_c_message_unpack(d, &allocator, len, message.p);
}
