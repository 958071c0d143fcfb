/* fuzz_request.c - frames off the socket: header and body of any request; the same bytes as a
 * response of that API; and, when the key belongs to none, as one of the data messages.
 *
 * What decodes must encode, and decode again to the same value. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_messages_test.h"

enum { ARENA_BYTES = 1 << 20, WRITER_BYTES = 64 << 20 };

static void check(const struct codec_message *m, int16_t version, const uint8_t *p, size_t len) {
    struct arena first, second;
    struct wire_writer w;
    arena_init(&first, ARENA_BYTES);
    arena_init(&second, ARENA_BYTES);
    wire_writer_init(&w, WRITER_BYTES);
    void *value = arena_alloc(&first, m->size), *again = arena_alloc(&second, m->size);
    struct wire_reader r = wire_reader_init(p, len, &first);
    if (m->decode(value, &r, version) == OK) {
        ASSERT(r.p >= p && r.p <= p + len);
        m->encode(value, &w, version);
        ASSERT(w.err == OK);
        r = wire_reader_init(w.data, w.len, &second);
        ASSERT(m->decode(again, &r, version) == OK);
        ASSERT(wire_left(&r) == 0);
        ASSERT(m->equal(value, again));
    }
    wire_writer_free(&w);
    arena_free(&first);
    arena_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena arena;
    struct kafka_request_header h;
    arena_init(&arena, ARENA_BYTES);
    struct wire_reader r = wire_reader_init(data, size, &arena);
    if (kafka_request_header_read(&r, &h) == OK) {
        for (const struct codec_message *m = kafka_message_tests; m < kafka_message_tests + KAFKA_MESSAGE_TESTS; m++)
            if (m->api_key == h.api_key) check(m, h.api_version, r.p, wire_left(&r));
    } else if (size >= 4 && !kafka_api_by_key(h.api_key)) {
        const struct codec_message *m = &kafka_message_tests[(uint16_t)h.api_key % KAFKA_MESSAGE_TESTS];
        check(m, h.api_version, data + 4, size - 4);
    }
    arena_free(&arena);
    return 0;
}
