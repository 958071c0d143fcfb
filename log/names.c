/* names.c - see names.h. */
#include "log/names.h"
#include <stdio.h>
#include <string.h>
#include "base/assert.h"

enum { OFFSET_DIGITS = 20, NAME_MAX_BYTES = 255 };

static bool topic_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool topic_name_ok(struct str name) {
    if (!name.p || name.len < 1 || name.len > TOPIC_NAME_MAX) return false;
    if (str_is(name, ".") || str_is(name, "..")) return false;
    for (int32_t i = 0; i < name.len; i++)
        if (!topic_char(name.p[i])) return false;
    return true;
}

bool topic_names_clash(struct str a, struct str b) {
    if (a.len != b.len) return false;
    for (int32_t i = 0; i < a.len; i++) {
        char x = a.p[i] == '.' ? '_' : a.p[i], y = b.p[i] == '.' ? '_' : b.p[i];
        if (x != y) return false;
    }
    return true;
}

/* journal-<k> is the commit journal's: partitions of a topic of that name get a letter that no topic name has. */
static const char journal_topic[] = "journal";
static const char journal_topic_folder[] = "journal~";

void folder_name(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition) {
    if (strcmp(topic, journal_topic) == 0) topic = journal_topic_folder;
    int len = snprintf(out, FOLDER_NAME_BYTES, "%s-%d", topic, partition);
    ASSERT(len > 0 && len < FOLDER_NAME_BYTES);
}

/* `name` cut so that name and tail fit a directory entry. */
static void join_cut(char out[FOLDER_NAME_BYTES], const char *name, const char *tail) {
    size_t room = NAME_MAX_BYTES - strlen(tail), len = strlen(name);
    int written = snprintf(out, FOLDER_NAME_BYTES, "%.*s%s", (int)(len < room ? len : room), name, tail);
    ASSERT(written > 0 && written <= NAME_MAX_BYTES);
}

void folder_name_deleted(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition, uint64_t plid) {
    char tail[64];
    snprintf(tail, sizeof tail, "-%d.%llu-delete", partition, (unsigned long long)plid);
    join_cut(out, topic, tail);
}

void folder_name_reset(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition, uint64_t plid, uint64_t generation) {
    char tail[96];
    snprintf(tail, sizeof tail, "-%d.%llu.%llu-delete", partition, (unsigned long long)plid, (unsigned long long)generation);
    join_cut(out, topic, tail);
}

void folder_name_stray(char out[FOLDER_NAME_BYTES], const char *name, uint64_t plid) {
    char tail[64];
    snprintf(tail, sizeof tail, ".%llu-stray", (unsigned long long)plid);
    join_cut(out, name, tail);
}

static bool ends_with(struct str s, const char *tail) {
    size_t len = strlen(tail);
    return (size_t)s.len > len && memcmp(s.p + s.len - len, tail, len) == 0;
}

/* Decimal without sign or leading zeros, as snprintf("%d") writes it. */
static bool parse_partition(struct str s, int32_t *out) {
    int64_t value = 0;
    if (s.len < 1 || s.len > 10 || (s.len > 1 && s.p[0] == '0')) return false;
    for (int32_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        value = value * 10 + (s.p[i] - '0');
    }
    if (value > INT32_MAX) return false;
    *out = (int32_t)value;
    return true;
}

enum folder_kind folder_parse(const char *name, struct str *topic, int32_t *partition) {
    struct str s = str_from(name);
    if (ends_with(s, "-delete")) return FOLDER_DELETED;
    if (ends_with(s, "-stray")) return FOLDER_STRAY;
    if (ends_with(s, "-future")) return FOLDER_FUTURE;
    const char *dash = strrchr(name, '-');
    if (!dash) return FOLDER_OTHER;
    struct str head = {name, (int32_t)(dash - name)}, tail = {dash + 1, s.len - (int32_t)(dash + 1 - name)};
    if (!parse_partition(tail, partition)) return FOLDER_OTHER;
    if (str_is(head, journal_topic)) return FOLDER_JOURNAL;
    if (str_is(head, journal_topic_folder)) head.len = (int32_t)sizeof journal_topic - 1;
    if (!topic_name_ok(head)) return FOLDER_OTHER;
    *topic = head;
    return FOLDER_PARTITION;
}

const char *file_suffix(enum file_kind kind) {
    static const char *const suffixes[FILE_KIND_COUNT] = {"", ".log", ".index", ".timeindex", ".txnindex", ".snapshot"};
    return suffixes[kind];
}

void file_name(char out[FILE_NAME_BYTES], int64_t offset, enum file_kind kind) {
    ASSERT(offset >= 0);
    snprintf(out, FILE_NAME_BYTES, "%020lld%s", (long long)offset, file_suffix(kind));
}

static const char swap_tail[] = ".cleaned"; /* Kafka's name for the same: it removes such files when it starts */

void swap_file_name(char out[SWAP_NAME_BYTES], int64_t offset, uint64_t id, enum file_kind kind) {
    ASSERT(offset >= 0);
    snprintf(out, SWAP_NAME_BYTES, "%020lld.%016llx%s%s", (long long)offset, (unsigned long long)id, file_suffix(kind), swap_tail);
}

bool swap_file_parse(const char *name) {
    size_t len = strlen(name);
    return len > OFFSET_DIGITS + sizeof swap_tail - 1 && strspn(name, "0123456789") == OFFSET_DIGITS &&
           strcmp(name + len - (sizeof swap_tail - 1), swap_tail) == 0;
}

enum file_kind file_parse(const char *name, int64_t *offset) {
    int64_t value = 0;
    for (int i = 0; i < OFFSET_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') return FILE_OTHER;
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, name[i] - '0',
                                                                                &value)) return FILE_OTHER;
    }
    for (enum file_kind kind = FILE_LOG; kind < FILE_KIND_COUNT; kind++) {
        if (strcmp(name + OFFSET_DIGITS, file_suffix(kind)) != 0) continue;
        *offset = value;
        return kind;
    }
    return FILE_OTHER;
}
