/* topic_config.h - the configs of a topic: Kafka's names, defaults and rules.
 *
 * What a user sets on a topic is kept as text, name by name (metadata log); what the broker acts
 * on is `struct topic_config`, resolved from those overrides and the broker's defaults. Names that
 * Kafka has but that change nothing here (flush.ms, preallocate, ...) are validated and kept.
 *
 * Values of unset topic configs come from broker keys, in Kafka's order of synonyms: retention.ms
 * from log.retention.ms, else .minutes, else .hours. */
#ifndef SERVER_TOPIC_CONFIG_H
#define SERVER_TOPIC_CONFIG_H
#include "log/log.h"
#include "server/config.h"

struct topic_config {
    struct log_config log;                /* segment.*, index.interval.bytes, cleanup, retention, compaction, producer id expiration */
    int8_t compression;                   /* -1: the producer's; else the codec's number, 0 = uncompressed */
    int32_t compression_level;            /* of that codec, from compression.<codec>.level */
    int32_t max_message_bytes;
    bool log_append_time;                 /* message.timestamp.type */
    int64_t timestamp_before_max_ms, timestamp_after_max_ms;
    int32_t min_insync_replicas;
    bool unclean_leader_election;
};

struct topic_config_key {
    const char *name;
    enum config_type type;
    const char *initial;                  /* Kafka's default as text */
    double min, max;                      /* both 0: any */
    const char *choices;
    const char *brokers[3];               /* broker keys that give the default, first set one wins; NULL ends */
    const char *doc;
};
const struct topic_config_key *topic_config_keys(size_t *count); /* ascending by name */
const struct topic_config_key *topic_config_find(struct str name); /* NULL: INVALID_CONFIG */

/* One override as the metadata keeps it. */
struct topic_override { struct str name, value; };

/* Is `value` allowed for `name`? ERR_NOT_FOUND: no such config; ERR_INVALID: value. `why` is a
 * sentence for the client. */
MUST_CHECK enum err topic_config_check(struct str name, struct str value, char *why, size_t why_len);
/* The rules that join several configs (min <= max compaction lag, ...), after each passed
 * topic_config_check(). */
MUST_CHECK enum err topic_config_check_all(const struct config *broker, const struct topic_override *overrides, size_t count,
                                           char *why, size_t why_len);
/* Overrides that do not pass are left at the default (they were checked when they were set). */
void topic_config_resolve(struct topic_config *out, const struct config *broker,
                          const struct topic_override *overrides, size_t count);

/* What an unset config is worth on this broker, as text. `buf` is used when a unit is converted. */
#define TOPIC_CONFIG_TEXT_BYTES 32
const char *topic_config_default_text(const struct config *broker, const struct topic_config_key *key,
                                      char buf[TOPIC_CONFIG_TEXT_BYTES], enum config_source *source);
/* Broker keys behind an unset config for DescribeConfigs' synonyms, from the one with index `first` on: those set, the one in
 * force first, then the defaults. Returns the number filled. */
#define TOPIC_CONFIG_SYNONYMS_MAX (3 * CONFIG_SYNONYMS_MAX)
size_t topic_config_synonyms(const struct config *broker, const struct topic_config_key *key, size_t first,
                             struct config_synonym out[TOPIC_CONFIG_SYNONYMS_MAX]);
#endif
