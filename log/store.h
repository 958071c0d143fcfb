/* store.h - a data directory; private to log/. */
#ifndef LOG_STORE_H
#define LOG_STORE_H
#include <stdatomic.h>
#include "log/shard.h"

struct stop_export;

struct log_store {
    struct io *io;                       /* of the opener; later of shard 0 */
    struct log_store_config config;
    char *dir;
    int lock_fd;
    struct uuid cluster_id, incarnation;
    uint32_t journal_set;
    struct journal *journal;
    struct log_shard *shards;            /* config.shards */
    struct log_recovery recovery;
    _Atomic bool failed;
    enum err failed_err;
    const char *failed_what;
    struct mail failed_mail;
    _Atomic uint64_t progress;           /* writes of segment files that went well, and logs that a checkpoint has seen to */
    _Atomic uint64_t *assigned;          /* per shard: CREATEs and DELETEs of metadata below it are durable */
    _Atomic uint64_t assigned_all;       /* the least of them, journalled */
    char **leftovers;                    /* folders of deleted logs that a life before did not empty */
    uint32_t leftover_count;
    void (*stopped)(void *ctx, enum err err);
    void *stopped_ctx;
    uint32_t stop_waiting;               /* shards that have not answered */
    enum err stop_err;
};

static inline bool store_failed(const struct log_store *s) { return atomic_load_explicit(&s->failed, memory_order_relaxed); }
/* Latches the directory; the server hears of it once, on shard 0's thread. Any thread. */
void store_fail(struct log_store *s, enum err err, const char *what);
void store_assigned(struct log_store *s, struct log_shard *sh, uint64_t metadata_end);

/* recover.c: folding the catalogue's states and the journal's entries, then files (docs/storage.md, R3, R5). */
enum err recover_state(void *ctx, uint64_t plid, const uint8_t *data, uint32_t len);
enum err recover_entry(void *ctx, const struct journal_entry *e);
/* After journal_open. `why`: one sentence. */
MUST_CHECK enum err recover_files(struct log_store *s, char *why, size_t why_len);

/* export.c: Kafka's own checkpoint files, at a clean stop. Nothing reads them back. */
void export_logs(struct log_shard *sh);
MUST_CHECK enum err export_store(struct log_store *s);
#endif
