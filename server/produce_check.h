/* produce_check.h - what a client may append: the rules for one batch, as pure functions.
 *
 * The order of the rules is Kafka's, because a batch with two faults must get Kafka's error.
 * Records are decoded only where a rule needs them (null keys on compacted topics). */
#ifndef SERVER_PRODUCE_CHECK_H
#define SERVER_PRODUCE_CHECK_H
#include "proto/record_batch.h"
#include "server/topic_config.h"

struct produce_check {
    /* in */
    struct bytes records;
    int16_t api_version;
    int64_t now_ms;
    const struct topic_config *config;
    /* out */
    struct batch_header header;
    const char *message;         /* static; NULL: none */
};
/* Kafka error code; 0: `header` is good and may be appended as far as the batch itself tells. */
int16_t produce_check(struct produce_check *c);

/* Whether the records must be looked at, and whether under another codec. */
bool produce_needs_keys(const struct topic_config *config);
bool produce_needs_recompression(const struct topic_config *config, const struct batch_header *h);

/* Finds records without a key: up to `max` indexes into `bad`, all counted in `*bad_count`. */
MUST_CHECK enum err produce_find_null_keys(const uint8_t *batch, const struct batch_header *h,
                                           size_t max_decompressed_bytes,
                                           int32_t *bad, int32_t max, int32_t *bad_count);
#endif
