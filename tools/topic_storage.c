/* topic_storage.c - see topic_storage.h. */
#include "tools/topic_storage.h"
#include <time.h>
#include "log/compact.h"
#include "log/retention.h"

static const char *word(const char *const *words, size_t count, int8_t i) {
    return i >= 0 && (size_t)i < count ? words[i] : "unknown";
}

const char *storage_retention_word(int8_t reason) {
    static const char *const words[] = {
        [RETENTION_EXPIRED] = "expired", [RETENTION_TOO_LARGE] = "too-large", [RETENTION_ACTIVE] = "active",
        [RETENTION_NOT_COMMITTED] = "not-committed", [RETENTION_YOUNG] = "young", [RETENTION_SMALL] = "small",
        [RETENTION_UNLIMITED] = "unlimited", [RETENTION_BEHIND] = "behind",
    };
    return word(words, ARRAY_LEN(words), reason);
}

const char *storage_compact_word(int8_t reason) {
    static const char *const words[] = {
        [COMPACT_OFF] = "off", [COMPACT_DAMAGED] = "damaged", [COMPACT_CLEAN] = "clean", [COMPACT_LITTLE] = "little-dirty",
        [COMPACT_RATIO] = "due-by-ratio", [COMPACT_LAG] = "due-by-lag",
    };
    return word(words, ARRAY_LEN(words), reason);
}

const char *storage_segment_word(int8_t state) {
    static const char *const words[] = {
        [COMPACT_SEGMENT_CLEAN] = "clean", [COMPACT_SEGMENT_DIRTY] = "dirty", [COMPACT_SEGMENT_ACTIVE] = "active",
        [COMPACT_SEGMENT_NOT_COMMITTED] = "not-committed", [COMPACT_SEGMENT_NOT_SYNCED] = "not-synced",
        [COMPACT_SEGMENT_YOUNG] = "young", [COMPACT_SEGMENT_BEHIND] = "behind",
    };
    return word(words, ARRAY_LEN(words), state);
}

const char *storage_bytes(int64_t bytes, char text[static STORAGE_TEXT_BYTES]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes / 1024;
    size_t u = 0;
    if (bytes < 1024) {
        snprintf(text, STORAGE_TEXT_BYTES, "%lld B", (long long)bytes);
        return text;
    }
    for (; v >= 1024 && u + 1 < ARRAY_LEN(units); u++) v /= 1024;
    snprintf(text, STORAGE_TEXT_BYTES, "%.1f %s", v, units[u]);
    return text;
}

const char *storage_time(int64_t ms, char text[static STORAGE_TEXT_BYTES]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (ms < 0 || !gmtime_r(&seconds, &tm) || strftime(text, STORAGE_TEXT_BYTES, "%Y-%m-%d %H:%M:%SZ", &tm) == 0)
        snprintf(text, STORAGE_TEXT_BYTES, "-");
    return text;
}

/* "in 3 h 20 min", at most two units. */
static const char *wait(int64_t now_ms, int64_t due_ms, char text[static STORAGE_TEXT_BYTES]) {
    int64_t s = due_ms > now_ms ? (due_ms - now_ms) / 1000 : 0;
    if (s >= 86400) snprintf(text, STORAGE_TEXT_BYTES, "in %lld d %lld h", (long long)(s / 86400), (long long)(s % 86400 / 3600));
    else if (s >= 3600) snprintf(text, STORAGE_TEXT_BYTES, "in %lld h %lld min", (long long)(s / 3600), (long long)(s % 3600 / 60));
    else if (s >= 60) snprintf(text, STORAGE_TEXT_BYTES, "in %lld min %lld s", (long long)(s / 60), (long long)(s % 60));
    else snprintf(text, STORAGE_TEXT_BYTES, "in %lld s", (long long)s);
    return text;
}

const char *storage_run(const struct admin_storage *s, char text[static STORAGE_TEXT_BYTES]) {
    char at[STORAGE_TEXT_BYTES];
    storage_time(s->run_ended_ms, at);
    if (s->compacting) snprintf(text, STORAGE_TEXT_BYTES, "is being compacted");
    else if (!s->ran) snprintf(text, STORAGE_TEXT_BYTES, "not compacted since the broker was started");
    else if (s->run_failed) snprintf(text, STORAGE_TEXT_BYTES, "could not be compacted at %.24s: %.200s", at, s->run_message);
    else
        snprintf(text, STORAGE_TEXT_BYTES, "compacted at %.24s in %lld ms: %lld of %lld records stayed, %lld of %lld bytes%s%.100s", at,
                 (long long)s->run_elapsed_ms, (long long)s->run_records_after, (long long)s->run_records_before, (long long)s->run_bytes_after,
                 (long long)s->run_bytes_before, s->run_message[0] ? "; " : "", s->run_map_full ? "the rest comes next" : s->run_message);
    return text;
}

const char *storage_compaction(const struct admin_storage *s, char text[static STORAGE_TEXT_BYTES]) {
    char by[STORAGE_TEXT_BYTES] = "";
    double percent = s->dirty_millionths / 1e4;
    if (s->compaction_due_ms != INT64_MAX) wait(s->now_ms, s->compaction_due_ms, by);
    switch (s->compaction) {
    case COMPACT_OFF: snprintf(text, STORAGE_TEXT_BYTES, "cleanup.policy does not say compact"); break;
    case COMPACT_DAMAGED: snprintf(text, STORAGE_TEXT_BYTES, "the log is damaged: it is not compacted"); break;
    case COMPACT_CLEAN: snprintf(text, STORAGE_TEXT_BYTES, "nothing is to be compacted now"); break;
    case COMPACT_LITTLE:
        snprintf(text, STORAGE_TEXT_BYTES, "%.1f %% are dirty, less than min.cleanable.dirty.ratio%s%.40s", percent,
                 by[0] ? "; max.compaction.lag.ms makes it due " : "", by);
        break;
    case COMPACT_RATIO: snprintf(text, STORAGE_TEXT_BYTES, "%.1f %% are dirty: it is due", percent); break;
    case COMPACT_LAG: snprintf(text, STORAGE_TEXT_BYTES, "a record has waited for max.compaction.lag.ms: it is due"); break;
    default: snprintf(text, STORAGE_TEXT_BYTES, "unknown"); break;
    }
    return text;
}

static const char *kept_by(const struct admin_storage *s, const struct admin_segment *g, char text[static STORAGE_TEXT_BYTES]) {
    char in[STORAGE_TEXT_BYTES], at[STORAGE_TEXT_BYTES];
    switch (g->retention) {
    case RETENTION_EXPIRED: return "goes at the next look: it is older than retention.ms";
    case RETENTION_TOO_LARGE: return "goes at the next look: the log is larger than retention.bytes";
    case RETENTION_ACTIVE: return "stays: it is being written";
    case RETENTION_NOT_COMMITTED: return "stays: not all of it is below the high watermark";
    case RETENTION_SMALL: return "stays: without it the log would be smaller than retention.bytes";
    case RETENTION_BEHIND: return "stays: the one before it stays";
    case RETENTION_UNLIMITED: return s->deletes ? "stays: retention.ms and retention.bytes are unlimited" : "stays: cleanup.policy does not say delete";
    case RETENTION_YOUNG:
        snprintf(text, STORAGE_TEXT_BYTES, "stays until %.24s, %.40s: then it is older than retention.ms", storage_time(g->retention_due_ms, at),
                 wait(s->now_ms, g->retention_due_ms, in));
        return text;
    default: return "unknown";
    }
}

static const char *compacted_by(int8_t state) {
    switch (state) {
    case COMPACT_SEGMENT_CLEAN: return "compacted";
    case COMPACT_SEGMENT_DIRTY: return "goes into the next compaction";
    case COMPACT_SEGMENT_ACTIVE: return "not compacted while it is written";
    case COMPACT_SEGMENT_NOT_COMMITTED: return "not compacted yet: not all of it is below the high watermark";
    case COMPACT_SEGMENT_NOT_SYNCED: return "not compacted yet: its files are complete with the next checkpoint";
    case COMPACT_SEGMENT_YOUNG: return "not compacted yet: younger than min.compaction.lag.ms";
    case COMPACT_SEGMENT_BEHIND: return "not compacted yet: the one before it has to wait";
    default: return "unknown";
    }
}

const char *storage_segment(const struct admin_storage *s, const struct admin_segment *g, char text[static STORAGE_TEXT_BYTES]) {
    char kept[STORAGE_TEXT_BYTES];
    if (s->compacts && !s->deletes) snprintf(text, STORAGE_TEXT_BYTES, "%s", compacted_by(g->compaction));
    else if (s->compacts) snprintf(text, STORAGE_TEXT_BYTES, "%.150s; %s", kept_by(s, g, kept), compacted_by(g->compaction));
    else snprintf(text, STORAGE_TEXT_BYTES, "%.200s", kept_by(s, g, kept));
    return text;
}

static void time_json(struct json_out *json, const char *key, int64_t ms) {
    if (ms == INT64_MAX) json_null(json, key);
    else json_i64(json, key, ms);
}

void storage_json(struct json_out *json, const struct admin_storage *s) {
    json_i64(json, "size_bytes", s->size_bytes);
    json_i64(json, "segments", s->segment_count);
    json_i64(json, "faulty_ranges", s->faulty_ranges);
    json_object(json, "compaction");
    json_text(json, "state", storage_compact_word(s->compaction));
    json_bool(json, "running", s->compacting);
    json_i64(json, "compacted_end", s->compacted_end);
    json_i64(json, "clean_bytes", s->clean_bytes);
    json_i64(json, "dirty_bytes", s->dirty_bytes);
    json_f64(json, "dirty_ratio", s->dirty_millionths / 1e6);
    time_json(json, "due_ms", s->compaction_due_ms);
    if (s->ran) {
        json_object(json, "last_run");
        json_i64(json, "ended_ms", s->run_ended_ms);
        json_i64(json, "elapsed_ms", s->run_elapsed_ms);
        json_i64(json, "records_before", s->run_records_before);
        json_i64(json, "records_after", s->run_records_after);
        json_i64(json, "bytes_before", s->run_bytes_before);
        json_i64(json, "bytes_after", s->run_bytes_after);
        json_bool(json, "failed", s->run_failed);
        json_text(json, "message", s->run_message);
        json_object_end(json);
    } else {
        json_null(json, "last_run");
    }
    json_object_end(json);
}
