/* log_harness.h - a log store on one thread, over a real or a simulated disk, and a model of what it
 * was told: every batch that was appended, byte for byte, and what was reported durable. */
#ifndef LOG_HARNESS_H
#define LOG_HARNESS_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/trace.h"
#include "log/impl.h"
#include "log/journal.h"
#include "log/log.h"
#include "log/names.h"
#include "log/shard.h"
#include "log/store.h"
#include "tests/sim/io_sim.h"
#include "tests/sim/prng.h"

enum { SHARDS_MAX = 2 };

struct machine {
    struct sim_world *world;             /* NULL: a real disk */
    struct io *io;
    struct mailbox mail[SHARDS_MAX];
    struct timers timers;
    struct log_store_config config;
    struct log_store *store;
    struct log_shard *shards[SHARDS_MAX];
    struct log_recovery recovery;
    char why[512];
    enum err failed;
    bool stopped;
    enum err stop_err;
};

static inline void machine_failed(void *ctx, enum err err, const char *what) {
    (void)what;
    ((struct machine *)ctx)->failed = err;
}

static inline struct log_store_config machine_config(const char *dir, uint32_t shards) {
    return (struct log_store_config){.dir = dir, .node_id = 1, .shards = shards, .journal_bytes = 8u << 20, .journal_piece_bytes = 1u << 20,
                                     .journal_depth = 2, .tail_bytes = 1u << 20, .open_files_max = 64, .direct = true,
                                     .checkpoint_logs = 1, .check_cuts = true};
}

/* OK: open and attached. */
static inline enum err machine_open(struct machine *m) {
    char why[200];
    struct io_config ic = {0};
    m->io = m->world ? sim_io_create(m->world, 0) : io_blocking_create(&ic, why, sizeof why);
    ASSERT(m->io);
    m->failed = OK;
    m->stopped = false;
    m->config.failed = machine_failed;
    m->config.failed_ctx = m;
    timers_init(&m->timers);
    for (uint32_t i = 0; i < m->config.shards; i++) mailbox_init(&m->mail[i], m->io);
    enum err err = log_store_open(m->io, &m->config, &m->store, &m->recovery, m->why, sizeof m->why);
    if (err != OK) {
        m->store = NULL;
        return err;
    }
    for (uint32_t i = 0; i < m->config.shards; i++) m->shards[i] = log_store_attach(m->store, i, m->io, &m->mail[i], &m->timers);
    return OK;
}

/* One turn; waits at most `wait_ns`. False: the node is down, or nothing can happen any more. */
static inline bool machine_turn(struct machine *m, int64_t wait_ns) {
    for (uint32_t i = 0; i < m->config.shards; i++) mailbox_drain(&m->mail[i]);
    timers_run(&m->timers, io_mono_ns(m->io));
    bool mail = false;
    for (uint32_t i = 0; i < m->config.shards; i++) {
        log_shard_turn(m->shards[i]);
        mail |= !mailbox_empty(&m->mail[i]);
    }
    int64_t now = io_mono_ns(m->io), deadline = timers_next(&m->timers);
    if (deadline > now + wait_ns) deadline = now + wait_ns;
    if (mail || deadline < now) deadline = now;
    return io_turn(m->io, deadline) >= 0;
}

static inline void machine_stopped(void *ctx, enum err err) {
    struct machine *m = ctx;
    m->stopped = true;
    m->stop_err = err;
}

/* Clean stop; false: the node went down or the directory is latched. */
static inline bool machine_stop(struct machine *m) {
    log_store_stop(m->store, machine_stopped, m);
    for (uint32_t turns = 0; !m->stopped; turns++) {
        ASSERT(turns < 1000000); /* it hangs */
        if (!machine_turn(m, 1000000000)) return false;
    }
    return m->stop_err == OK;
}

/* After a stop, or after the simulated death of the node. */
static inline void machine_close(struct machine *m) {
    log_store_close(m->store);
    m->store = NULL;
    timers_free(&m->timers);
    io_destroy(m->io);
    m->io = NULL;
}

static inline bool machine_settle(struct machine *m, struct log *l) {
    while (l->durable_end < l->end && m->failed == OK)
        if (!machine_turn(m, 1000000000)) return false;
    return m->failed == OK;
}

/* ---- batches ------------------------------------------------------------------------------------ */

struct batch_spec {
    int32_t records;
    uint32_t value_bytes;
    int64_t timestamp;
    int64_t producer_id;                 /* -1: none */
    int16_t producer_epoch;
    int32_t base_sequence;
    enum batch_codec codec;
    uint64_t seed;
};

/* malloc'ed. */
static inline uint8_t *batch_make(const struct batch_spec *s, struct batch_header *h) {
    struct batch_builder b;
    struct prng r = {s->seed};
    batch_builder_init(&b, s->codec, 64u << 20);
    b.producer_id = s->producer_id;
    b.producer_epoch = s->producer_id >= 0 ? s->producer_epoch : -1;
    b.base_sequence = s->producer_id >= 0 ? s->base_sequence : -1;
    uint8_t *value = malloc(s->value_bytes + 8);
    ASSERT(value);
    for (int32_t i = 0; i < s->records; i++) {
        for (uint32_t k = 0; k < s->value_bytes; k += 8) store_le64(value + k, prng_next(&r));
        enum err err = batch_builder_add(&b, s->timestamp + i, BYTES_NULL, (struct bytes){value, (int32_t)s->value_bytes}, NULL, 0);
        ASSERT(err == OK);
    }
    uint8_t *out;
    size_t len;
    enum err err = batch_builder_finish(&b, &out, &len);
    ASSERT(err == OK);
    err = batch_parse(out, len, h);
    ASSERT(err == OK);
    free(value);
    batch_builder_free(&b);
    return out;
}

static inline enum err append_spec(struct log *l, const struct batch_spec *s, struct log_append *a) {
    struct batch_header h;
    uint8_t *batch = batch_make(s, &h);
    *a = (struct log_append){.batch = batch, .header = &h, .now_ms = s->timestamp, .log_append_time_ms = -1};
    enum err err = log_append(l, a);
    free(batch);
    a->batch = NULL;
    a->header = NULL;
    return err;
}

/* ---- reading ------------------------------------------------------------------------------------ */

static inline void read_flag(struct log_read *r) { *(bool *)r->owner = true; }

/* Reads once, waiting; release it afterwards. */
static inline enum err read_wait(struct machine *m, struct log *l, struct log_read *r) {
    bool done = false;
    r->done = read_flag;
    r->owner = &done;
    if (!log_read(l, r))
        while (!done)
            if (!machine_turn(m, 1000000000)) return ERR_CLOSED; /* the node is down: `r` is forgotten */
    return r->err;
}

static inline void find_flag(struct log_find *f) { *(bool *)f->owner = true; }

static inline enum err find_wait(struct machine *m, struct log *l, struct log_find *f) {
    bool done = false;
    f->done = find_flag;
    f->owner = &done;
    f->max_decompressed_bytes = 64u << 20;
    if (!log_find(l, f))
        while (!done)
            if (!machine_turn(m, 1000000000)) return ERR_CLOSED;
    return f->err;
}

/* ---- the model ------------------------------------------------------------------------------------ */

struct model_batch { int64_t base, end; uint8_t *bytes; uint32_t len; int64_t producer_id; int32_t base_sequence; int32_t epoch; };
enum { STARTS_MAX = 32, MODEL_PRODUCERS = 3, MODEL_FIRST_PRODUCER = 7 };
/* What happened to the log since it was last opened, in the order of the journal. */
struct model_op { bool cut, reset; struct model_batch batch; int64_t end; };   /* end: of the log behind it; a reset is a cut */
struct model {
    uint64_t plid;
    char topic[32];
    int32_t partition;
    struct log *log;                     /* NULL while the store is closed */
    struct model_batch *batches;         /* as of memory */
    uint32_t count, cap;
    struct model_op *ops;
    uint32_t op_count, op_cap, ops_durable;
    struct model_batch *opened;          /* as of the last opening */
    uint32_t opened_count;
    int64_t opened_end;
    uint8_t **owned;                     /* bytes of all batches ever */
    uint32_t owned_count, owned_cap;
    int64_t end;
    int64_t start_asked, start_durable;
    int64_t starts[STARTS_MAX];          /* asked for, not yet durable */
    uint32_t starts_asked, starts_done;
    uint64_t *created_high;              /* NULL: nobody asks */
    bool created, delete_asked, deleted;
    bool unsure;                         /* being compared with what was found: not the log's content yet */
    int64_t next_sequence[MODEL_PRODUCERS];
};

/* Operations are durable in order; so many are, as the log reports it. */
static inline void model_durable(struct log *l, void *owner) {
    struct model *x = owner;
    const struct log_impl *impl = impl_of_const(l);
    if (impl->truncates_joined > 0) return;
    uint32_t last_cut = 0;
    for (uint32_t i = 0; i < x->op_count; i++)
        if (x->ops[i].cut) last_cut = i + 1;
    if (x->ops_durable < last_cut) x->ops_durable = last_cut;
    while (x->ops_durable < x->op_count && x->ops[x->ops_durable].end <= l->durable_end) x->ops_durable++;
}

static inline void *model_grow(void *v, uint32_t *cap, uint32_t count, size_t size) {
    if (count < *cap) return v;
    *cap = *cap ? *cap * 2 : 16;
    v = realloc(v, *cap * size);
    ASSERT(v);
    return v;
}

static inline void model_op_add(struct model *x, const struct model_op *op) {
    x->ops = model_grow(x->ops, &x->op_cap, x->op_count, sizeof *x->ops);
    x->ops[x->op_count++] = *op;
}

static inline void model_batch_push(struct model *x, const struct model_batch *b) {
    x->batches = model_grow(x->batches, &x->cap, x->count, sizeof *x->batches);
    x->batches[x->count++] = *b;
    x->end = b->end;
}

static inline void model_batches_cut(struct model *x, int64_t end) {
    while (x->count > 0 && x->batches[x->count - 1].base >= end) x->count--;
    x->end = end;
}

static inline void model_cut(struct model *x, int64_t end) {
    model_batches_cut(x, end);
    model_op_add(x, &(struct model_op){.cut = true, .end = end});
}

/* The log has begun anew at `end`. */
static inline void model_reset(struct model *x, int64_t end) {
    model_batches_cut(x, 0);
    x->end = end;
    model_op_add(x, &(struct model_op){.cut = true, .reset = true, .end = end});
}

static inline void model_free(struct model *x) {
    for (uint32_t i = 0; i < x->owned_count; i++) free(x->owned[i]);
    free(x->owned);
    free(x->batches);
    free(x->opened);
    free(x->ops);
    *x = (struct model){0};
}

/* Remembers the batch as the log gives it back at once, from memory. */
static inline void model_add(struct model *x, int64_t base, int64_t last, const struct batch_spec *spec) {
    struct log_read r = {.offset = base, .max_offset = last + 1, .max_bytes = 1, .min_one = true};
    bool at_once = log_read(x->log, &r);
    ASSERT(at_once && r.err == OK && r.slice_count == 1);
    uint8_t *copy = malloc(r.bytes);
    ASSERT(copy);
    memcpy(copy, slice_data(&r.slices[0]), r.bytes);
    x->owned = model_grow(x->owned, &x->owned_cap, x->owned_count, sizeof *x->owned);
    x->owned[x->owned_count++] = copy;
    struct model_batch b = {base, last + 1, copy, r.bytes, spec->producer_id, spec->base_sequence, x->log->epoch};
    model_batch_push(x, &b);
    model_op_add(x, &(struct model_op){.batch = b, .end = last + 1});
    log_read_release(&r);
}

/* The model as of the first `n` operations since the last opening. */
static inline void model_as_of(struct model *x, uint32_t n) {
    x->count = 0;
    for (uint32_t i = 0; i < x->opened_count; i++) model_batch_push(x, &x->opened[i]);
    x->end = x->opened_end;
    for (uint32_t i = 0; i < n; i++) {
        if (x->ops[i].cut) model_batches_cut(x, x->ops[i].reset ? 0 : x->ops[i].end);
        if (x->ops[i].reset) x->end = x->ops[i].end;
        if (x->ops[i].cut) continue;
        model_batch_push(x, &x->ops[i].batch);
    }
}

/* This is what the log was opened with. */
static inline void model_opened(struct model *x) {
    free(x->opened);
    x->opened = malloc((x->count + 1) * sizeof *x->opened);
    ASSERT(x->opened);
    for (uint32_t i = 0; i < x->count; i++) x->opened[i] = x->batches[i];
    x->opened_count = x->count;
    x->opened_end = x->end;
    x->op_count = x->ops_durable = 0;
}

/* First batch that ends after `offset`. */
static inline uint32_t model_find(const struct model *x, int64_t offset) {
    uint32_t low = 0, high = x->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (x->batches[mid].end <= offset) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* Compares what was read with the model; a phrase that names the difference, or NULL. */
static inline const char *model_compare(const struct model *x, const struct log_read *r) {
    uint32_t i = model_find(x, r->offset), at = 0;
    for (uint32_t k = 0; k < r->slice_count; k++) {
        const uint8_t *p = slice_data(&r->slices[k]);
        uint32_t left = r->slices[k].len;
        while (left > 0) {
            if (i == x->count) return "more was read than was ever appended";
            const struct model_batch *b = &x->batches[i];
            uint32_t n = b->len - at < left ? b->len - at : left;
            if (memcmp(p, b->bytes + at, n) != 0) return "other bytes than were appended";
            p += n;
            left -= n;
            at += n;
            if (at == b->len) {
                at = 0;
                i++;
            }
        }
    }
    if (at != 0) return "a part of a batch";
    if (r->bytes > 0 && r->next_offset != x->batches[i - 1].end) return "next_offset is wrong";
    return NULL;
}

/* Reads the whole log in steps of `max_bytes` and compares; "" when the node went down meanwhile. */
static inline const char *model_check(struct machine *m, struct model *x, uint32_t max_bytes) {
    for (int64_t offset = x->log->start; offset < x->log->end;) {
        struct log_read r = {.offset = offset, .max_offset = x->log->end, .max_bytes = max_bytes, .min_one = true};
        enum err err = read_wait(m, x->log, &r);
        if (err == ERR_CLOSED) return "";
        if (err != OK) return err_str(err);
        const char *wrong = r.bytes == 0 ? "nothing was read" : model_compare(x, &r);
        offset = r.next_offset;
        log_read_release(&r);
        if (wrong) return wrong;
    }
    return NULL;
}

/* Whether an index file holds what indexing the segment's batches anew gives; for a log at rest. */
static inline const char *model_check_index(struct machine *m, const struct model *x, const struct segment *s, bool last) {
    const struct log_impl *l = impl_of_const(x->log);
    struct segment_index fresh;
    index_init(&fresh, s->base, l->config.index_interval_bytes, l->config.segment_index_bytes);
    uint32_t position = 0;
    for (uint32_t k = model_find(x, s->base); k < x->count && x->batches[k].base < s->end; k++) {
        struct batch_header h;
        if (batch_parse(x->batches[k].bytes, x->batches[k].len, &h) != OK || index_add(&fresh, &h, position) != OK) return "the model";
        position += h.total_bytes;
    }
    if (!last && index_seal(&fresh) != OK) return "the model";
    const char *wrong = NULL;
    for (int times = 0; times < 2 && !wrong; times++) {
        uint32_t n = times ? fresh.time_count : fresh.offset_count, bytes = n * (times ? TIME_ENTRY_BYTES : INDEX_ENTRY_BYTES);
        uint8_t *expected = malloc(bytes + 1), *data = NULL;
        size_t len = 0;
        char path[PATH_BYTES];
        ASSERT(expected);
        if (times) index_encode_times(&fresh, 0, n, expected);
        else index_encode(&fresh, 0, n, expected);
        path_segment(path, m->config.dir, l->folder, s->base, times ? FILE_TIMEINDEX : FILE_INDEX);
        int rc = io_read_file(m->io, path, 1u << 30, &data, &len);
        if (rc < 0 && n > 0) wrong = "an index file is missing";
        else if (len != bytes || memcmp(data ? data : expected, expected, len) != 0) wrong = times ? "the time index differs" : "the index differs";
        if (wrong && getenv("VARVE_TRACE")) {
            fprintf(stderr, "segment %lld %s: expected %u, found %zu bytes; in memory %u %u window %p interval %u size %u\n", (long long)s->base, wrong, bytes, len, s->index_bytes, s->time_index_bytes, (void *)s->index, l->config.index_interval_bytes, s->size_bytes);
            for (uint32_t i = 0; times && i < MAX(n, len / TIME_ENTRY_BYTES); i++) {
                struct time_entry a = {0}, b = {0};
                if (i < n) a = time_entry_get(expected + i * TIME_ENTRY_BYTES);
                if (i < len / TIME_ENTRY_BYTES) b = time_entry_get(data + i * TIME_ENTRY_BYTES);
                fprintf(stderr, "   %lld %u   %lld %u\n", (long long)a.timestamp, a.relative, (long long)b.timestamp, b.relative);
            }
        }
        free(expected);
        free(data);
    }
    index_free(&fresh);
    return wrong;
}

/* Whether the segment files hold exactly the model's bytes from the first segment to `end`; for a log at rest. */
static inline const char *model_check_files(struct machine *m, const struct model *x, bool exact) {
    const struct log_impl *l = impl_of_const(x->log);
    for (uint32_t i = 0; i < l->segment_count; i++) {
        const struct segment *s = &l->segments[i];
        char path[PATH_BYTES];
        path_segment(path, m->config.dir, l->folder, s->base, FILE_LOG);
        uint8_t *data = NULL;
        size_t len = 0;
        int rc = io_read_file(m->io, path, 1u << 30, &data, &len);
        if (rc < 0 && exact && s->size_bytes > 0) return "a segment file is missing";
        if (rc < 0) continue;
        const char *wrong = len > s->size_bytes ? "the file is longer than the segment" : NULL;
        if (exact && len != s->size_bytes) wrong = "the file is shorter than the segment";
        size_t at = 0;
        for (uint32_t k = model_find(x, s->base); k < x->count && at < len && !wrong; k++) {
            const struct model_batch *b = &x->batches[k];
            size_t n = b->len < len - at ? b->len : len - at;
            if (memcmp(data + at, b->bytes, n) != 0) wrong = "the file is no prefix of the log";
            if (b->end > x->log->durable_end) wrong = "the file holds bytes that are not durable";
            at += n;
        }
        free(data);
        if (!wrong && exact && x->batches && x->count > 0 && model_find(x, s->base) < x->count && x->batches[model_find(x, s->base)].base == s->base)
            wrong = model_check_index(m, x, s, i + 1 == l->segment_count);
        if (wrong) return wrong;
    }
    return NULL;
}
#endif
