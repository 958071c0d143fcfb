/* files.h - a bounded cache of open segment files: one per shard, used on its thread only.
 *
 * A handle in use is never closed; an idle one is, oldest first, when more than the limit are open.
 * Handles outlive renames of their folder, and reads in flight outlive an unlink. */
#ifndef LOG_FILES_H
#define LOG_FILES_H
#include "base/list.h"
#include "log/impl.h"
#include "log/names.h"

struct file_slot;
enum { WRITER_FILES = 4 }; /* what one writer of segments may have open at once: the least that a cache holds */
struct file {
    int fd;
    uint64_t plid;
    int64_t base;
    uint8_t kind;                 /* enum file_kind */
    bool direct;
    bool forgotten;               /* closed with its last user */
    uint32_t users;
    struct digests *digests;      /* log/digests.h; NULL: not loaded, or none */
    bool digests_tried;
    struct list lru;              /* idle ones, oldest first */
    struct file *next;            /* in its hash chain */
};
struct files {
    struct io *io;
    const char *dir;              /* the data directory, borrowed */
    struct file **slots;
    uint32_t slot_count, count, max;
    struct list idle;
    uint64_t digest_bytes;        /* memory of all digests */
};

MUST_CHECK enum err files_init(struct files *f, struct io *io, const char *dir, uint32_t max);
void files_free(struct files *f);    /* closes all, in use or not */

enum { PATH_BYTES = 4096 };
/* <dir>/<folder>, <dir>/<folder>/<20 digits><suffix>, <dir>/<folder>/<name>. False: longer than PATH_BYTES. */
void path_folder(char out[PATH_BYTES], const char *dir, const char *folder);
void path_segment(char out[PATH_BYTES], const char *dir, const char *folder, int64_t base, enum file_kind kind);
/* <dir>/<folder>/<20 digits>.<16 hex digits><suffix>.cleaned: what compaction has written, until it is the log's. */
void path_swap(char out[PATH_BYTES], const char *dir, const char *folder, int64_t base, uint64_t swap_id, enum file_kind kind);
void path_in_folder(char out[PATH_BYTES], const char *dir, const char *folder, const char *name);

/* Opens or finds; `flags` are those of io_open beside READ and WRITE (CREATE, DIRECT). NULL: *neg_errno. Give back with
 * files_put. */
struct file *files_get(struct files *f, const struct log_impl *l, int64_t base, enum file_kind kind, int flags, int *neg_errno);
void files_put(struct files *f, struct file *file);
/* The log's file, or all of its files (base -1), will not be asked for again. */
void files_forget(struct files *f, uint64_t plid, int64_t base);
/* The segment was cut: its digests are void. */
void files_forget_digests(struct files *f, uint64_t plid, int64_t base);
#endif
