/* state.h - a log's state in the catalogue (LogState of proto/storage.proto). */
#ifndef LOG_STATE_H
#define LOG_STATE_H
#include "log/impl.h"
#include "proto/storage.pb-c.h"

/* As memory has it now. `*data` is malloc'ed. ERR_NOMEM. */
MUST_CHECK enum err state_encode(const struct log_impl *l, uint8_t **data, uint32_t *len);
/* A new log with that state, W at its end. ERR_CORRUPT, ERR_NOMEM. */
MUST_CHECK enum err state_decode(struct log_shard *sh, uint64_t plid, const uint8_t *data, size_t len, struct log_impl **out);

/* Producers as messages, ascending by id: what `v` points to is in `items`. */
struct producer_message {
    Varve__Storage__Producer m;
    Varve__Storage__ProducerBatch window[PRODUCER_WINDOW];
    Varve__Storage__ProducerBatch *pointers[PRODUCER_WINDOW];
};
struct producer_messages { struct producer_message *items; Varve__Storage__Producer **v; uint32_t count; };
MUST_CHECK enum err producers_to_messages(const struct producers *p, struct producer_messages *out);   /* ERR_NOMEM */
void producer_messages_free(struct producer_messages *m);
size_t producers_packed_bytes(const struct producers *p);   /* all of them, in any message: at most */
MUST_CHECK enum err producer_from_message(const Varve__Storage__Producer *m, struct producer *out);    /* ERR_CORRUPT */

void segment_to_message(const struct segment *s, Varve__Storage__Segment *m);
MUST_CHECK enum err segment_from_message(const Varve__Storage__Segment *m, struct segment *s); /* ERR_CORRUPT */

/* The state under this plid holds what is the store's: how far metadata was assigned. */
#define STORE_PLID (UINT64_C(1) << 63)
MUST_CHECK enum err state_encode_store(uint64_t metadata_assigned, uint8_t **data, uint32_t *len);
MUST_CHECK enum err state_decode_store(const uint8_t *data, size_t len, uint64_t *metadata_assigned);

void config_to_message(const struct log_config *c, Varve__Storage__LogConfig *m);
/* Values that cannot be are replaced by the defaults. */
void config_from_message(const Varve__Storage__LogConfig *m, struct log_config *c);
#endif
