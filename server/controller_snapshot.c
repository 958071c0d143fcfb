/* controller_snapshot.c - the controller writes snapshots into the metadata log, and moves its start behind what they stand for.
 *
 *   due: so many bytes of records since the last one -> begin, pieces of the image, end, batch by batch -> start of the log
 *
 * Each batch is a change like any other and changes nothing. Between them the controller makes no other change, so the
 * image is the same from the first piece to the last, and the cursor into it stays good. If this broker stops being
 * the controller, its half snapshot is void, because the next controller puts something else behind it or begins its own.
 *
 * The log begins with the snapshot before the newest one. The newest alone would do; but whoever was away for a moment
 * then needs not start anew. The move of the start is asked for again until it is done: a controller that finds two
 * snapshots in the log does not know what the last one got to. Reactor 0's thread. */
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/controller_impl.h"

enum {
    BATCH_BYTES = 64 << 10, BATCH_PIECES = 512, /* a turn of those who apply them */
    AMPLIFICATION = 8,                          /* snapshots have so many times the bytes of changes at most */
};
#define RETRY_NS INT64_C(5000000000)
#define MS_NS INT64_C(1000000)

/* ---- when ---------------------------------------------------------------------------------------------------------- */

static void look_later(struct controller *c, int64_t at_ns) {
    struct timer *t = &c->snapshot.timer;
    if (!c->stopping && !timer_armed(t)) timer_set(&controller_reactor(c)->timers, t, at_ns);
}

static void look(struct timer *t) {
    struct controller *c = CONTAINER_OF(t, struct controller, snapshot.timer);
    controller_snapshot_trim(c);
    controller_pump(c);
}

static bool is_due(struct controller *c) {
    struct snapshot_writer *w = &c->snapshot;
    const struct config *config = &c->broker->config;
    const struct image_snapshots *s = &controller_newest(c)->snapshots;
    int64_t now_ns = controller_reactor(c)->now_ns, interval_ms = MIN(config->metadata_snapshot_interval_ms, INT64_MAX / (2 * MS_NS));
    if (s->tail_bytes == 0) {
        w->since_ns = 0;
        return false;
    }
    if (w->since_ns == 0) w->since_ns = now_ns;
    if (now_ns < w->not_before_ns) {
        look_later(c, w->not_before_ns);
        return false;
    }
    if (s->tail_bytes >= MAX((uint64_t)config->metadata_snapshot_bytes, s->last_bytes / AMPLIFICATION)) return true;
    if (interval_ms == 0) return false;
    if (now_ns - w->since_ns >= interval_ms * MS_NS) return true;
    look_later(c, w->since_ns + interval_ms * MS_NS);
    return false;
}

/* ---- writing one ------------------------------------------------------------------------------------------------------ */

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct controller *c = ch->owner;
    struct snapshot_writer *w = &c->snapshot;
    const struct image *im = controller_newest(c);
    bool begins = w->begin == im->metadata_end;
    e->pieces = begins ? 0 : im->snapshots.pieces;
    e->crc = begins ? 0 : im->snapshots.crc;
    if (begins) controller_begin_snapshot(e, im->groups_end);
    size_t bytes = (size_t)MIN((int64_t)BATCH_BYTES, c->broker->config.metadata_snapshot_bytes);
    if (controller_add_pieces(e, im, &w->cursor, bytes, BATCH_PIECES)) controller_end_snapshot(e, w->begin);
}

/* What was begun is still what the log ends with, and this is the controller that began it. */
static bool goes_on(const struct controller *c) {
    const struct snapshot_writer *w = &c->snapshot;
    const struct image_snapshots *s = &controller_newest(c)->snapshots;
    return controller_is_active(c->broker) && w->epoch == c->active_epoch && s->open && s->begin == w->begin;
}

static void done(struct controller_change *ch) {
    struct controller *c = ch->owner;
    struct snapshot_writer *w = &c->snapshot;
    const struct image_snapshots *s = &controller_newest(c)->snapshots;
    w->away = false;
    if (!ch->err && goes_on(c)) {
        controller_pump(c);
        return;
    }
    w->writing = false;
    if (!ch->err && !s->open && s->last == w->begin) {
        w->since_ns = 0;
        trace_info("metadata", "snapshot of the metadata at offset %llu: %u records, %llu bytes; other changes waited for %.1f ms",
                   (unsigned long long)s->last, s->pieces, (unsigned long long)s->last_bytes,
                   (double)(controller_reactor(c)->now_ns - w->begun_ns) / 1e6);
        controller_snapshot_trim(c);
    } else {
        w->not_before_ns = controller_reactor(c)->now_ns + RETRY_NS;
        if (ch->err && ch->err != ERR_NOT_CONTROLLER && ch->err != ERR_CLOSED)
            trace_warn("metadata", "a snapshot of the metadata could not be written: %s; tried again later", err_str(ch->err));
    }
    controller_pump(c);
}

struct controller_change *controller_snapshot_next(struct controller *c, bool *hold) {
    struct snapshot_writer *w = &c->snapshot;
    *hold = w->away;
    if (w->away || c->stopping) return NULL;
    if (w->writing && !goes_on(c)) w->writing = false;
    if (!w->writing) {
        if (!is_due(c)) return NULL;
        w->writing = true;
        w->begin = controller_newest(c)->metadata_end;
        w->begun_ns = controller_reactor(c)->now_ns;
        w->epoch = c->active_epoch;
        w->cursor = (struct snapshot_cursor){0};
    }
    w->away = true;
    w->change = (struct controller_change){.caller = controller_reactor(c), .make = make, .done = done, .owner = c};
    list_init(&w->change.link);
    return &w->change;
}

/* ---- the start of the log ------------------------------------------------------------------------------------------------ */

static void trimmed(struct partition_op *op) {
    struct controller *c = CONTAINER_OF(CONTAINER_OF(op, struct partition_delete_records, op), struct controller, snapshot.trim);
    struct snapshot_writer *w = &c->snapshot;
    w->trimming = false;
    if (!op->error) {
        w->trimmed = (uint64_t)w->trim.offset;
        trace_info("metadata", "the metadata log begins at offset %llu now", (unsigned long long)w->trimmed);
        controller_snapshot_trim(c);
    } else if (controller_is_active(c->broker)) {
        look_later(c, controller_reactor(c)->now_ns + RETRY_NS);
    }
}

void controller_snapshot_trim(struct controller *c) {
    struct snapshot_writer *w = &c->snapshot;
    const struct image_snapshots *s = &controller_newest(c)->snapshots;
    if (w->trimming || c->stopping || !controller_is_active(c->broker) || s->before <= w->trimmed) return;
    w->trimming = true;
    w->trim = (struct partition_delete_records){
        .op = {.caller = controller_reactor(c), .owner = metadata_owner(c), .plid = c->partition.plid, .done = trimmed},
        .offset = (int64_t)s->before,
    };
    partition_delete_records(&w->trim);
}

void controller_snapshot_init(struct controller *c) { timer_init(&c->snapshot.timer, look); }

void controller_snapshot_stop(struct controller *c) { timer_cancel(&controller_reactor(c)->timers, &c->snapshot.timer); }
