/* topic_config.c - the table of topic configs, their validation and resolution. */
#include "server/topic_config.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "proto/record_batch.h"

#define I32 2147483647.0
#define I64 9223372036854775807.0
#define NEVER "9223372036854775807"
#define NOT_YET "Kept, without effect yet."
#define ROW(name, type, initial, min, max, choices, doc, ...) {name, type, initial, min, max, choices, {__VA_ARGS__}, doc}

static const struct topic_config_key table[] = {
    ROW("cleanup.policy", CONFIG_LIST, "delete", 0, 0, "compact|delete",
        "`delete` removes old segments, `compact` keeps the newest record of each key, both may be given.", "log.cleanup.policy"),
    ROW("compression.gzip.level", CONFIG_INT, "-1", -1, 9, NULL,
        "Level when the broker compresses with gzip. -1: the codec's own default.", "compression.gzip.level"),
    ROW("compression.lz4.level", CONFIG_INT, "9", 1, 17, NULL, "Level when the broker compresses with lz4.", "compression.lz4.level"),
    ROW("compression.type", CONFIG_STRING, "producer", 0, 0, "uncompressed|zstd|lz4|snappy|gzip|producer",
        "The codec in which batches are stored. `producer` keeps what the producer chose; others recompress.", "compression.type"),
    ROW("compression.zstd.level", CONFIG_INT, "3", -131072, 22, NULL, "Level when the broker compresses with zstd.",
        "compression.zstd.level"),
    ROW("delete.retention.ms", CONFIG_LONG, "86400000", 0, I64, NULL, "How long tombstones of a compacted topic are kept after they were first compacted.",
        "log.cleaner.delete.retention.ms"),
    ROW("file.delete.delay.ms", CONFIG_LONG, "60000", 0, I64, NULL, "Kept for Kafka's tools: files go at once, and reads of them that are under way finish first.",
        "log.segment.delete.delay.ms"),
    ROW("flush.messages", CONFIG_LONG, NEVER, 1, I64, NULL,
        "Kept for Kafka's tools. Every acknowledged record is durable already.", "log.flush.interval.messages"),
    ROW("flush.ms", CONFIG_LONG, NEVER, 0, I64, NULL, "Kept for Kafka's tools. Every acknowledged record is durable already.",
        "log.flush.interval.ms"),
    ROW("follower.replication.throttled.replicas", CONFIG_LIST, "", 0, 0, NULL, "Kept for Kafka's tools: replication is not throttled."),
    ROW("index.interval.bytes", CONFIG_INT, "4096", 0, I32, NULL, "Bytes of records between two entries of the offset index.",
        "log.index.interval.bytes"),
    ROW("leader.replication.throttled.replicas", CONFIG_LIST, "", 0, 0, NULL, "Kept for Kafka's tools: replication is not throttled."),
    ROW("local.retention.bytes", CONFIG_LONG, "-2", -2, I64, NULL, "Kept for Kafka's tools: there is no tiered storage."),
    ROW("local.retention.ms", CONFIG_LONG, "-2", -2, I64, NULL, "Kept for Kafka's tools: there is no tiered storage."),
    ROW("max.compaction.lag.ms", CONFIG_LONG, NEVER, 1, I64, NULL,
        "The longest that a record may go without being compacted.", "log.cleaner.max.compaction.lag.ms"),
    ROW("max.message.bytes", CONFIG_INT, "1048588", 0, I32, NULL, "The largest record batch that is taken, as it comes over the wire.",
        "message.max.bytes"),
    ROW("message.timestamp.after.max.ms", CONFIG_LONG, "3600000", 0, I64, NULL,
        "How far in the future a producer's timestamp may lie.", "log.message.timestamp.after.max.ms"),
    ROW("message.timestamp.before.max.ms", CONFIG_LONG, NEVER, 0, I64, NULL,
        "How far in the past a producer's timestamp may lie.", "log.message.timestamp.before.max.ms"),
    ROW("message.timestamp.type", CONFIG_STRING, "CreateTime", 0, 0, "CreateTime|LogAppendTime",
        "Whose clock stamps records: the producer's or the broker's.", "log.message.timestamp.type"),
    ROW("min.cleanable.dirty.ratio", CONFIG_DOUBLE, "0.5", 0, 1, NULL, "The share of dirty bytes from which the log is compacted.",
        "log.cleaner.min.cleanable.ratio"),
    ROW("min.compaction.lag.ms", CONFIG_LONG, "0", 0, I64, NULL, "The shortest time that a record stays as it was written.",
        "log.cleaner.min.compaction.lag.ms"),
    ROW("min.insync.replicas", CONFIG_INT, "1", 1, I32, NULL, "Replicas that must be in sync for a write with acks=all.",
        "min.insync.replicas"),
    ROW("preallocate", CONFIG_BOOL, "false", 0, 0, NULL, "Kept for Kafka's tools: segment files grow as they are written.",
        "log.preallocate"),
    ROW("remote.log.copy.disable", CONFIG_BOOL, "false", 0, 0, NULL, "Kept for Kafka's tools: there is no tiered storage."),
    ROW("remote.log.delete.on.disable", CONFIG_BOOL, "false", 0, 0, NULL, "Kept for Kafka's tools: there is no tiered storage."),
    ROW("remote.storage.enable", CONFIG_BOOL, "false", 0, 0, NULL, "There is no tiered storage: only `false` is taken."),
    ROW("retention.bytes", CONFIG_LONG, "-1", -1, I64, NULL,
        "Size of a partition above which its oldest segments are deleted. -1: no limit.", "log.retention.bytes"),
    ROW("retention.ms", CONFIG_LONG, "604800000", -1, I64, NULL, "Age at which segments are deleted. -1: for ever.",
        "log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ROW("segment.bytes", CONFIG_INT, "1073741824", 1048576, I32, NULL, "The largest size of a segment file.", "log.segment.bytes"),
    ROW("segment.index.bytes", CONFIG_INT, "10485760", 4, I32, NULL,
        "The largest size of an index file; the segment is rolled when it is full.", "log.index.size.max.bytes"),
    ROW("segment.jitter.ms", CONFIG_LONG, "0", 0, I64, NULL, "Largest random lead of rolling. " NOT_YET, "log.roll.jitter.ms", "log.roll.jitter.hours"),
    ROW("segment.ms", CONFIG_LONG, "604800000", 1, I64, NULL, "Age at which a segment is rolled.", "log.roll.ms", "log.roll.hours"),
    ROW("unclean.leader.election.enable", CONFIG_BOOL, "false", 0, 0, NULL,
        "Kept for Kafka's tools: a replica that lacks acknowledged records never leads here.", "unclean.leader.election.enable"),
};

const struct topic_config_key *topic_config_keys(size_t *count) {
    *count = ARRAY_LEN(table);
    return table;
}

const struct topic_config_key *topic_config_find(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* ---- defaults ---------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* The broker key that gives the value, NULL: the table's own default. */
static const char *broker_key(const struct config *broker, const struct topic_config_key *key, enum config_source *source) {
    for (size_t i = 0; i < ARRAY_LEN(key->brokers) && key->brokers[i]; i++) {
        const struct config_value *v = config_value(broker, key->brokers[i]);
        if (!v->text) continue;
        *source = v->source;
        return key->brokers[i];
    }
    *source = CONFIG_DEFAULT;
    return NULL;
}

const char *topic_config_default_text(const struct config *broker, const struct topic_config_key *key,
                                      char buf[TOPIC_CONFIG_TEXT_BYTES], enum config_source *source) {
    const char *name = broker_key(broker, key, source);
    if (!name) return key->initial;
    const char *text = config_value(broker, name)->text;
    int64_t unit_ms = ends_with(name, ".hours") ? 3600000 : ends_with(name, ".minutes") ? 60000 : 1;
    if (unit_ms == 1) return text;
    int64_t n = strtoll(text, NULL, 10);
    snprintf(buf, TOPIC_CONFIG_TEXT_BYTES, "%" PRId64, n < 0 ? n : n * unit_ms);
    return buf;
}

size_t topic_config_synonyms(const struct config *broker, const struct topic_config_key *key, size_t first,
                             struct config_synonym out[TOPIC_CONFIG_SYNONYMS_MAX]) {
    STATIC_ASSERT(ARRAY_LEN(key->brokers) * CONFIG_SYNONYMS_MAX <= TOPIC_CONFIG_SYNONYMS_MAX);
    struct config_synonym one[CONFIG_SYNONYMS_MAX];
    size_t n = 0;
    for (int defaults = 0; defaults < 2; defaults++)
        for (size_t i = first; i < ARRAY_LEN(key->brokers) && key->brokers[i]; i++) {
            size_t count = config_synonyms(broker, config_find(str_from(key->brokers[i])), one);
            for (size_t k = 0; k < count; k++)
                if ((one[k].source == CONFIG_DEFAULT) == (defaults == 1)) out[n++] = one[k];
        }
    return n;
}

/* ---- validation -------------------------------------------------------------------------- */

/* "topic:0,topic:1", Kafka's throttled replicas: pairs of partition and broker, or *. */
static bool throttled_valid(struct str v) {
    if (v.len == 0 || str_is(v, "*")) return true;
    for (int32_t i = 0; i < v.len; i++)
        if (!strchr("0123456789:, ", v.p[i])) return false;
    return true;
}

enum err topic_config_check(struct str name, struct str value, char *why, size_t why_len) {
    const struct topic_config_key *key = topic_config_find(name);
    char reason[160];
    int len = (int)MIN(name.len, 80);
    if (!key) {
        snprintf(why, why_len, "Unknown topic config name: %.*s", len, name.p);
        return ERR_NOT_FOUND;
    }
    if (config_check_value(key->type, key->min, key->max, key->choices, value, reason, sizeof reason) != OK) {
        snprintf(why, why_len, "Invalid value %.*s for configuration %s: it %s", (int)MIN(value.len, 80), value.p, key->name, reason);
        return ERR_INVALID;
    }
    if (str_is(name, "remote.storage.enable") && strncasecmp(value.p, "true", (size_t)value.len) == 0) {
        snprintf(why, why_len, "remote.storage.enable: there is no tiered storage here");
        return ERR_INVALID;
    }
    if (str_is(name, "cleanup.policy") && value.len == 0) {
        snprintf(why, why_len, "Invalid value for configuration cleanup.policy: it is empty");
        return ERR_INVALID;
    }
    if (strstr(key->name, ".throttled.") && !throttled_valid(value)) {
        snprintf(why, why_len, "Invalid value for configuration %s: it is not a list of partition:broker pairs or *", key->name);
        return ERR_INVALID;
    }
    if (str_is(name, "compression.gzip.level") && str_is(value, "0")) {
        snprintf(why, why_len, "Invalid value 0 for configuration compression.gzip.level: it must be -1 or between 1 and 9");
        return ERR_INVALID;
    }
    return OK;
}

enum err topic_config_check_all(const struct config *broker, const struct topic_override *overrides, size_t count, char *why,
                                size_t why_len) {
    struct topic_config c;
    topic_config_resolve(&c, broker, overrides, count);
    if (c.log.min_compaction_lag_ms > c.log.max_compaction_lag_ms) {
        snprintf(why, why_len, "conflict topic config setting min.compaction.lag.ms (%" PRId64 ") > max.compaction.lag.ms (%" PRId64 ")",
                 c.log.min_compaction_lag_ms, c.log.max_compaction_lag_ms);
        return ERR_INVALID;
    }
    return OK;
}

/* ---- resolution -------------------------------------------------------------------------- */

static const char *value_text(const struct config *broker, const char *name, const struct topic_override *overrides, size_t count,
                              char *buf, size_t buf_len) {
    char why[192], converted[TOPIC_CONFIG_TEXT_BYTES];
    enum config_source source;
    for (size_t i = 0; i < count; i++) {
        if (!str_is(overrides[i].name, name) || topic_config_check(overrides[i].name, overrides[i].value, why, sizeof why) != OK)
            continue;
        snprintf(buf, buf_len, "%.*s", (int)overrides[i].value.len, overrides[i].value.p);
        return buf;
    }
    const struct topic_config_key *key = topic_config_find(str_from(name));
    ASSERT(key);
    snprintf(buf, buf_len, "%s", topic_config_default_text(broker, key, converted, &source));
    return buf;
}

struct resolver {
    const struct config *broker;
    const struct topic_override *overrides;
    size_t count;
    char text[256]; /* every value that is read here is far shorter */
};

static int64_t whole(struct resolver *r, const char *name) {
    return strtoll(value_text(r->broker, name, r->overrides, r->count, r->text, sizeof r->text), NULL, 10);
}

static const char *word(struct resolver *r, const char *name) {
    return value_text(r->broker, name, r->overrides, r->count, r->text, sizeof r->text);
}

static void compression_resolve(struct topic_config *out, struct resolver *r) {
    static const struct { const char *name; int8_t codec; const char *level; } codecs[] = {
        {"producer", -1, NULL},
        {"uncompressed", 0, NULL},
        {"gzip", 1, "compression.gzip.level"},
        {"snappy", 2, NULL},
        {"lz4", 3, "compression.lz4.level"},
        {"zstd", 4, "compression.zstd.level"},
    };
    const char *type = word(r, "compression.type");
    out->compression = -1;
    out->compression_level = 0;
    for (size_t i = 0; i < ARRAY_LEN(codecs); i++) {
        if (strcmp(type, codecs[i].name) != 0) continue;
        out->compression = codecs[i].codec;
        if (codecs[i].level) out->compression_level = (int32_t)whole(r, codecs[i].level);
        return;
    }
}

void topic_config_resolve(struct topic_config *out, const struct config *broker, const struct topic_override *overrides, size_t count) {
    struct resolver r = {broker, overrides, count, {0}};
    memset(out, 0, sizeof *out);
    log_config_defaults(&out->log);
    out->log.segment_bytes = (uint32_t)whole(&r, "segment.bytes");
    out->log.segment_ms = whole(&r, "segment.ms");
    out->log.index_interval_bytes = (uint32_t)whole(&r, "index.interval.bytes");
    out->log.segment_index_bytes = (uint32_t)whole(&r, "segment.index.bytes");
    out->log.producer_id_expiration_ms = broker->producer_id_expiration_ms;
    const char *policy = word(&r, "cleanup.policy");
    out->log.cleanup_compact = strstr(policy, "compact") != NULL;
    out->log.cleanup_delete = strstr(policy, "delete") != NULL;
    compression_resolve(out, &r);
    out->max_message_bytes = (int32_t)whole(&r, "max.message.bytes");
    out->log_append_time = strcmp(word(&r, "message.timestamp.type"), "LogAppendTime") == 0;
    out->timestamp_before_max_ms = whole(&r, "message.timestamp.before.max.ms");
    out->timestamp_after_max_ms = whole(&r, "message.timestamp.after.max.ms");
    out->log.retention_ms = whole(&r, "retention.ms");
    out->log.retention_bytes = whole(&r, "retention.bytes");
    out->log.delete_retention_ms = whole(&r, "delete.retention.ms");
    out->log.file_delete_delay_ms = whole(&r, "file.delete.delay.ms");
    out->log.min_compaction_lag_ms = whole(&r, "min.compaction.lag.ms");
    out->log.max_compaction_lag_ms = whole(&r, "max.compaction.lag.ms");
    out->log.min_cleanable_ppm = (uint32_t)(strtod(word(&r, "min.cleanable.dirty.ratio"), NULL) * 1e6 + 0.5);
    out->min_insync_replicas = (int32_t)whole(&r, "min.insync.replicas");
    out->unclean_leader_election = strcmp(word(&r, "unclean.leader.election.enable"), "true") == 0;
}
