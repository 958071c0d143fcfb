/* dump.h - what the parts of `varve dump` share.
 *
 *   dump.c            options, files and folders, which part handles what
 *   dump_input.c      a file through a bounded window
 *   dump_log.c        prints .log                dump_records.c    prints records
 *   dump_offsets.c    records of __consumer_offsets
 *   dump_metadata.c   records of __cluster_metadata
 *   dump_filter.c     which of them              dump_summary.c    figures about them
 *   dump_follow.c     and what is added
 *   dump_small.c      prints indexes, snapshots, checkpoints, manifest
 *   dump_scan.c       verifies one segment       dump_entries.c    its indexes against it
 *   dump_folder.c     what a folder tells about its segments
 *   dump_journal.c    journal pieces             dump_catalog.c    catalogue and varve.meta
 *   dump_repair*.c    repairs (dump_repair.h)    dump_compare.c    two copies of a partition
 *
 * Two modes: printing (one function print_* for each kind of file), and verifying (verify_*), where the
 * only output are damages. Text goes to stdout; with --json every line is one JSON object. */
#ifndef TOOLS_DUMP_H
#define TOOLS_DUMP_H
#include "base/compiler.h"
#include "base/err.h"
#include "log/epochs.h"
#include "log/manifest.h"
#include "log/names.h"
#include "proto/record_batch.h"
#include "tools/dump_filter.h"
#include "tools/json_out.h"

int cmd_dump(int argc, char **argv);

struct data_dir;
struct dump {
    bool records, json, verify, follow;
    bool offsets_decoder;         /* all records are of __consumer_offsets */
    bool metadata_decoder;        /* or of __cluster_metadata */
    struct filter filter;         /* of records; then only .log files are looked at */
    struct summary *summary;      /* counts instead of printing; NULL: prints */
    bool walking;                 /* below a folder: what vanishes meanwhile is no error */
    struct data_dir *dir;         /* the data directory that is being walked; NULL: none */
    struct json_out out;
    uint64_t damages, files;
    bool unreadable;              /* something could not be read: exit 1 */
};
/* "FILE: position P: WHAT": to stdout when verifying, else to stderr. */
void dump_damage(struct dump *d, const char *path, uint64_t position, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Something worth knowing that is no damage: "FILE: WHAT" to stderr. */
void dump_note(struct dump *d, const char *path, const char *fmt, ...) PRINTF_LIKE(3, 4);
void dump_unreadable(struct dump *d, const char *path, int neg_errno);

/* ---- names in a folder, sorted ------------------------------------------------------------- */

struct names { char **v; size_t count, cap; };
int names_read(const char *path, struct names *n);               /* 0 or negative errno */
void names_free(struct names *n);

/* ---- input: a file as it was when it was opened, in a window of bounded size --------------- */

#define INPUT_WINDOW_BYTES (1u << 20)
#define INPUT_WHOLE_BYTES_MAX (512u << 20)   /* files that are read as a whole: index, manifest, catalogue, piece */
#define BATCH_BYTES_MAX (256u << 20)         /* a larger one is checked, but its records are not shown */
struct input {
    const char *path;             /* borrowed */
    int fd;
    uint64_t size;                /* at open; the file may grow or shrink meanwhile */
    int64_t mtime_ns;
    uint8_t *buf;
    size_t cap, len;
    uint64_t at;                  /* of buf[0] */
    int neg_errno;                /* of a failed read */
};
int input_open(struct input *in, const char *path);              /* 0 or negative errno */
void input_close(struct input *in);
bool input_changed(const struct input *in);                      /* since it was opened */
/* Up to `want` bytes at `position`; `*got` is less at the end of the file or after an error. Valid until the next call. */
const uint8_t *input_view(struct input *in, uint64_t position, size_t want, size_t *got);
/* CRC-32C of a range; false: it ends too early. */
bool input_crc(struct input *in, uint64_t position, uint64_t len, uint32_t *crc);
/* The whole file, malloc'ed, NUL behind its end; NULL and *neg_errno. */
uint8_t *read_whole(const char *path, size_t *len, int *neg_errno);

/* ---- printing ------------------------------------------------------------------------------ */

void print_log(struct dump *d, const char *path, int64_t base_offset);
/* The batches from `*position` on, which moves behind the last whole one; those below `*next_offset` are left out (NULL: none). `ended`:
 * nothing will be added, so bytes that are left over are said. */
void print_batches(struct dump *d, struct input *in, uint64_t *position, int64_t *next_offset, bool ended);
void print_records(struct dump *d, const char *path, uint64_t position, const uint8_t *batch, const struct batch_header *h);
/* Whether the filter wants a record of the batch. */
bool records_match(struct dump *d, const uint8_t *batch, const struct batch_header *h);
/* Returns the exit code, on SIGINT or SIGTERM. */
int dump_follow(struct dump *d, char **paths, int count);
/* Whether the path is of a file in a folder whose name begins so; of `__consumer_offsets`, of the metadata log. */
bool dump_folder_is_of(const char *path, const char *prefix);
bool is_offsets_file(const char *path);
bool is_metadata_file(const char *path);
/* Key and payload, decoded: text to stdout, else into the object that is open in `out`. */
void print_offsets_record(struct json_out *out, bool text, const struct record *r);
void print_metadata_record(struct json_out *out, bool text, const struct record *r);
void print_index(struct dump *d, const char *path, int64_t base_offset);
void print_time_index(struct dump *d, const char *path, int64_t base_offset);
void print_txn_index(struct dump *d, const char *path);
void print_snapshot(struct dump *d, const char *path);
void print_text_file(struct dump *d, const char *path, const char *name);   /* checkpoints, partition.metadata */
void print_manifest(struct dump *d, const char *path);
void print_journal_piece(struct dump *d, const char *path);
void print_catalog(struct dump *d, const char *path);
void print_meta(struct dump *d, const char *path);

/* ---- verifying ------------------------------------------------------------------------------ */

/* What catalogue and journal tell about the logs. */
struct data_dir *data_dir_load(const char *path);                /* NULL: no varve.meta or catalogue there */
void data_dir_free(struct data_dir *dir);

struct known_segment { int64_t base; uint64_t size_bytes; bool sealed; };
/* What the catalogue says of one log. `exact`: nothing behind the checkpoint may have removed or cut anything. */
struct known_log {
    uint64_t plid;
    uint32_t journal;
    char topic[256];
    int32_t partition;
    struct known_segment *segments;
    uint32_t segment_count;
    struct epochs epochs;         /* complete, markers of the journal included */
    bool exact, clean_stop;
};
const struct known_log *data_dir_log(const struct data_dir *dir, uint64_t plid);
const struct known_log *data_dir_at(const struct data_dir *dir, size_t i);   /* ascending plid; NULL: no more */

/* A partition folder, or whatever folder a file lies in. */
struct folder {
    char *path;
    bool has_manifest, manifest_ok;
    struct manifest manifest;
    struct epochs epochs;
    bool epochs_known;            /* the table is there; `epochs_exact`: and up to date */
    bool epochs_exact;
    int64_t *bases;               /* of the .log files, ascending */
    uint32_t base_count;
    struct data_dir *dir;         /* owned; NULL: not in a data directory, or shared */
    const struct known_log *known;/* in that or the shared one; NULL: not known */
};
/* `shared` (NULL: the folder's parent is asked) is borrowed and outlives `f`. */
void folder_load(struct folder *f, const char *path, const struct data_dir *shared);
void folder_free(struct folder *f);

enum verify_what { VERIFY_LOG = 1, VERIFY_INDEX = 2, VERIFY_TIMES = 4 };
/* `stem` is the path without its suffix; `base_offset` -1: the name does not tell. */
void verify_segment(struct dump *d, const struct folder *f, const char *stem, int64_t base_offset, unsigned what);
/* Segments and folders that the catalogue of the data directory at `path` names and that are not there. */
void verify_missing(struct dump *d, const char *path);
void verify_snapshot(struct dump *d, const char *path);
void verify_text_file(struct dump *d, const char *path, const char *name);
void verify_manifest(struct dump *d, const char *path);
/* One piece by itself: sums of its groups. The chain through all of them: verify_journal(). */
void verify_journal_piece(struct dump *d, const char *path);
void verify_journal(struct dump *d, const char *folder);
void verify_catalog(struct dump *d, const char *path);
void verify_meta(struct dump *d, const char *path);
#endif
