/* topic_storage.h - what a broker of ours tells of a partition's log, in words: for `varve topic describe` and `explain`. */
#ifndef TOOLS_TOPIC_STORAGE_H
#define TOOLS_TOPIC_STORAGE_H
#include "tools/cli.h"
#include "tools/json_out.h"

enum { STORAGE_TEXT_BYTES = 320 };
/* "12 B", "3.4 MiB" */
const char *storage_bytes(int64_t bytes, char text[static STORAGE_TEXT_BYTES]);
/* "2026-11-28 21:40:12Z"; "-" for a negative one. */
const char *storage_time(int64_t ms, char text[static STORAGE_TEXT_BYTES]);
/* The last run, or that there was none. */
const char *storage_run(const struct admin_storage *s, char text[static STORAGE_TEXT_BYTES]);
/* When the log will be compacted, and why not before. */
const char *storage_compaction(const struct admin_storage *s, char text[static STORAGE_TEXT_BYTES]);
/* Why the segment is still there, or when it goes. */
const char *storage_segment(const struct admin_storage *s, const struct admin_segment *segment, char text[static STORAGE_TEXT_BYTES]);
/* The words that stand for them in JSON. */
const char *storage_retention_word(int8_t reason);
const char *storage_compact_word(int8_t reason);
const char *storage_segment_word(int8_t state);
/* The members of a partition's object. */
void storage_json(struct json_out *json, const struct admin_storage *s);
#endif
