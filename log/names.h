/* names.h - names of topics, partition folders and segment files. Pure. */
#ifndef LOG_NAMES_H
#define LOG_NAMES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/bytes.h"

enum { TOPIC_NAME_MAX = 249 };
#define FOLDER_NAME_BYTES 264          /* topic, '-', 10 digits, NUL, rounded */
#define FILE_NAME_BYTES 48             /* 20 digits, suffix, NUL, rounded */

/* 1..249 of [a-zA-Z0-9._-], not "." or "..". */
bool topic_name_ok(struct str name);
/* Names that differ only in '.' against '_' clash in metric names: Kafka refuses the second. True for equal names too. */
bool topic_names_clash(struct str a, struct str b);

/* "<topic>-<partition>"; "journal~-<partition>" for the topic "journal", because "journal-<k>" is the commit journal's. */
void folder_name(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition);
/* "<topic>-<partition>.<plid>-delete": where a deleted partition's folder waits; the topic is cut so that it fits 255 bytes. */
void folder_name_deleted(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition, uint64_t plid);
/* "<topic>-<partition>.<plid>.<generation>-delete": what a log was before it began anew as that generation. */
void folder_name_reset(char out[FOLDER_NAME_BYTES], const char *topic, int32_t partition, uint64_t plid, uint64_t generation);
/* "<name>.<plid>-stray", for a folder that the catalogue does not know (plid 0: its manifest cannot be read). */
void folder_name_stray(char out[FOLDER_NAME_BYTES], const char *name, uint64_t plid);

enum folder_kind { FOLDER_OTHER, FOLDER_PARTITION, FOLDER_DELETED, FOLDER_STRAY, FOLDER_FUTURE, FOLDER_JOURNAL };
/* What a folder's name says. `topic` (a view) and `partition` are set for FOLDER_PARTITION, `partition` alone (the
 * index) for FOLDER_JOURNAL "journal-<k>". */
enum folder_kind folder_parse(const char *name, struct str *topic, int32_t *partition);

enum file_kind { FILE_OTHER, FILE_LOG, FILE_INDEX, FILE_TIMEINDEX, FILE_TXNINDEX, FILE_SNAPSHOT, FILE_KIND_COUNT };
const char *file_suffix(enum file_kind kind);   /* ".log", ...; "" for FILE_OTHER */
/* 20 digits and suffix. */
void file_name(char out[FILE_NAME_BYTES], int64_t offset, enum file_kind kind);
#define SWAP_NAME_BYTES 64
/* "<20 digits>.<16 hex digits><suffix>.cleaned": a segment that compaction has written, before it takes the place of others. */
void swap_file_name(char out[SWAP_NAME_BYTES], int64_t offset, uint64_t id, enum file_kind kind);
bool swap_file_parse(const char *name);
/* FILE_OTHER unless exactly 20 digits (within int64) and a known suffix. */
enum file_kind file_parse(const char *name, int64_t *offset);
#endif
