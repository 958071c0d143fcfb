/* journal_space.c - how full the journal and the disk are, and what follows from it.
 *
 * One piece is reserved, the rest is the capacity. Of it: at 1/2 (live bytes) a checkpoint starts, at 3/4 connections are
 * read more slowly, at 7/8 records wait. The last eighth is for entries that must not wait behind
 * records (votes, deletes); of those clients can ask for any number of log starts, so at 15/16 they wait, too (log_start_room). The reserved piece for IMAGEs, truncations, what drops files, and cut slices, without which no
 * checkpoint could end, and for what recovery writes. */
#include <string.h>
#include "base/bytes.h"
#include "base/trace.h"
#include "log/journal_impl.h"

static uint32_t piece_total(const struct journal *j) { return MAX(j->piece_limit, j->piece_count); }

uint64_t journal_capacity(const struct journal *j) { return (uint64_t)(piece_total(j) - 1) * j->piece_bytes; }

/* In whole pieces but for the head's, since that is how space is given back. */
uint64_t journal_used(const struct journal *j) { return (uint64_t)(j->used_count - 1) * j->piece_bytes + j->head.offset; }

enum placing journal_place(const struct journal *j, uint32_t len, enum space_class class) {
    bool here = j->head.offset + len <= j->piece_bytes - IO_BLOCK_BYTES;
    uint64_t after = here ? journal_used(j) + len : (uint64_t)j->used_count * j->piece_bytes + len;
    uint64_t capacity = journal_capacity(j);
    if (class == SPACE_RECORDS && after > capacity / 8 * 7) return PLACE_BLOCKED;
    if (class == SPACE_URGENT && after > capacity) return PLACE_BLOCKED;
    if (here) return PLACE_HERE;
    return j->free_count >= (class == SPACE_RESERVE ? 1u : 2u) ? PLACE_LINK : PLACE_BLOCKED;
}

void journal_note_blocked(struct journal *j, uint32_t len, enum space_class class) {
    uint64_t after = (uint64_t)j->used_count * j->piece_bytes + len;
    uint64_t limit = class == SPACE_RECORDS ? journal_capacity(j) / 8 * 7 : journal_capacity(j);
    bool grows = j->piece_count < j->piece_limit && !j->maker.failed && (class == SPACE_RESERVE || after <= limit);
    if (grows) j->piece_blocked = true;
    else j->space_blocked = true;
    if (class == SPACE_RESERVE) j->reserve_blocked = true;
}

/* A checkpoint that is writing files may wait for these before it can end (log/writer.c): they must not wait, nor what lies before them in
 * their shard, for the space that its end gives back. */
static bool checkpoint_may_wait(enum entry_type type) {
    return type == ENTRY_IMAGE || type == ENTRY_TRUNCATE || type == ENTRY_RESET || type == ENTRY_LOGSTART || type == ENTRY_SWAP ||
           type == ENTRY_DELETE; /* a log of the same name, made anew by another shard, waits for the folder */
}

enum space_class journal_slice_class(const struct journal_slice *s) {
    if (s->cut) return SPACE_RESERVE;
    if (!s->urgent) return SPACE_RECORDS;
    uint32_t at = JOURNAL_GROUP_HEADER_BYTES;
    struct journal_entry e;
    while (journal_entry_next(s->buf->data, s->used, &at, (struct journal_pos){0, 0}, 0, &e) == OK)
        if (checkpoint_may_wait(e.type)) return SPACE_RESERVE;
    return SPACE_URGENT;
}

int64_t journal_disk_room(const struct journal *j) {
    int64_t room = atomic_load_explicit(&j->free_bytes, memory_order_relaxed);
    room -= atomic_load_explicit(&j->pending_bytes, memory_order_relaxed);
    room -= atomic_load_explicit(&j->owed_bytes, memory_order_relaxed);
    room -= (int64_t)atomic_load_explicit(&j->unmade_bytes, memory_order_relaxed);
    return room - (int64_t)atomic_load_explicit(&j->catalog_bytes, memory_order_relaxed);
}

int journal_pressure(const struct journal *j) { return atomic_load_explicit(&j->pressure, memory_order_relaxed); }
uint64_t journal_live_bytes(const struct journal *j) { return atomic_load_explicit(&j->live_bytes, memory_order_relaxed); }
uint64_t journal_pending_bytes(const struct journal *j) {
    int64_t bytes = atomic_load_explicit(&j->pending_bytes, memory_order_relaxed);
    return bytes > 0 ? (uint64_t)bytes : 0;
}
void journal_pending_add(struct journal *j, int64_t bytes) {
    atomic_fetch_add_explicit(&j->pending_bytes, bytes, memory_order_relaxed);
}

/* They have taken their disk space: that is known here before the disk is looked at again. */
void journal_pending_written(struct journal *j, int64_t bytes) {
    atomic_fetch_sub_explicit(&j->free_bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&j->pending_bytes, bytes, memory_order_relaxed);
}

void journal_owed_add(struct journal *j, int64_t bytes) {
    if (bytes < 0) atomic_fetch_add_explicit(&j->free_bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&j->owed_bytes, bytes, memory_order_relaxed);
}

int journal_pressure_within(const struct journal *j, uint64_t reserve_bytes) {
    if (journal_disk_room(j) <= (int64_t)reserve_bytes) return 3;
    return atomic_load_explicit(&j->capacity_level, memory_order_relaxed);
}

static int capacity_now(const struct journal *j) {
    uint64_t queued = j->queue.bytes + j->held.bytes, used = journal_used(j) + queued, capacity = journal_capacity(j);
    uint64_t queued_groups = queued / j->group_bytes;
    if (used > capacity / 8 * 7 || j->space_blocked || queued_groups >= JOURNAL_QUEUE_STOP_GROUPS) return 2;
    return used > capacity / 4 * 3 || queued_groups >= JOURNAL_QUEUE_SLOW_GROUPS ? 1 : 0;
}

bool journal_starts_wait(const struct journal *j) { return atomic_load_explicit(&j->starts_wait, memory_order_relaxed); }

static int pressure_now(struct journal *j) {
    uint64_t used = journal_used(j) + j->queue.bytes + j->held.bytes;
    atomic_store_explicit(&j->starts_wait, used > journal_capacity(j) / 16 * 15, memory_order_relaxed);
    atomic_store_explicit(&j->capacity_level, capacity_now(j), memory_order_relaxed);
    return journal_pressure_within(j, j->cfg.disk_reserve_bytes);
}

static void pressure_deliver(struct mail *m) {
    struct shard_port *p = CONTAINER_OF(m, struct shard_port, pressure_mail);
    atomic_store(&p->pressure_posted, false);
    p->ops->pressure(p->ctx);
}

static void pressure_set(struct journal *j, int level) {
    int old = atomic_exchange_explicit(&j->pressure, level, memory_order_relaxed);
    if (old == level) return;
    if (level == 3) trace_warn("journal", "disk space is below the reserve: records are refused until there is more");
    for (uint32_t i = 0; i < j->cfg.shards; i++) {
        struct shard_port *p = &j->shards[i];
        if (p->mailbox == NULL || p->ops->pressure == NULL || atomic_exchange(&p->pressure_posted, true)) continue;
        p->pressure_mail.deliver = pressure_deliver;
        mailbox_post(p->mailbox, &p->pressure_mail);
    }
}

void journal_levels(struct journal *j) {
    uint64_t live = j->chain_bytes - j->replay_bytes;
    atomic_store_explicit(&j->live_bytes, live, memory_order_relaxed);
    atomic_store_explicit(&j->catalog_bytes, catalog_bytes(&j->catalog), memory_order_relaxed);
    uint64_t unmade = j->piece_limit > j->piece_count ? j->piece_limit - j->piece_count : 0;
    atomic_store_explicit(&j->unmade_bytes, unmade * j->piece_bytes, memory_order_relaxed);
    pressure_set(j, pressure_now(j));
    journal_pieces_keep_ahead(j);
    uint64_t capacity = journal_capacity(j);
    bool due = live >= capacity / 2 || journal_used(j) >= capacity / 4 * 3 || j->space_blocked;
    if (due && j->next_seq - 1 > j->checkpoint_seq) journal_checkpoint_begin(j);
}

void journal_space_poll(struct journal *j) {
    struct io_space space;
    int rc = io_space(j->io, j->cfg.dir, &space);
    if (rc < 0) {
        /* Not a reason to stop: the next look may tell, and a full disk shows itself in the files. */
        trace_warn("journal", "free disk space is unknown: %s", strerror(-rc));
        return;
    }
    atomic_store_explicit(&j->free_bytes, (int64_t)MIN(space.free_bytes, (uint64_t)INT64_MAX / 2), memory_order_relaxed);
}

void journal_space_touch(struct journal *j) {
    if (!timer_armed(&j->space_timer)) timer_set(j->timers, &j->space_timer, io_mono_ns(j->io) + JOURNAL_SPACE_NS);
}

void journal_space_timer(struct timer *t) {
    struct journal *j = CONTAINER_OF(t, struct journal, space_timer);
    if (j->err != OK) return;
    journal_space_poll(j);
    journal_pump(j);
    bool pending = atomic_load_explicit(&j->pending_bytes, memory_order_relaxed) > 0;
    if (journal_pressure(j) == 3 || pending) journal_space_touch(j);
}
