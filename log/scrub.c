/* scrub.c - see scrub.h. */
#include "log/scrub.h"
#include "base/trace.h"
#include "log/store.h"

enum { LOGS_PER_LOOK = 64 };
#define SECOND_NS INT64_C(1000000000)
#define PAUSE_NS (SECOND_NS / 10)
#define LOOK_NS (SECOND_NS / 1000)

static void slice_done(struct check *c);
static void segment_done(struct check *c);

static struct scrub *scrub_of(const struct log_shard *sh) { return sh->scrub; }

static void later(struct log_shard *sh, int64_t ns) { timer_set(sh->timers, &scrub_of(sh)->timer, io_mono_ns(sh->io) + ns); }

static bool over(const struct log_shard *sh) { return sh->stopping || sh->failed != OK; }

/* ---- which segment is next ---------------------------------------------------------------------- */

static bool wanted(const struct scrub *x, const struct log_impl *l, const struct segment *s) {
    if (!x->recheck) return s->file_made && (s->sealed || s->written_bytes > 0); /* of one that is being written: what is only in its file */
    return s->written_bytes > 0 && faulty_overlaps(l, s->base, 0, s->size_bytes);
}

static const struct segment *segment_next_in(const struct scrub *x, const struct log_impl *l) {
    if (l->delete_joined || l->folder_moved || (x->recheck && l->faulty_count == 0)) return NULL;
    for (uint32_t i = 0; i < l->segment_count; i++)
        if (l->segments[i].base >= x->base && wanted(x, l, &l->segments[i])) return &l->segments[i];
    return NULL;
}

/* False: all of them were looked at. */
static bool log_next(struct log_shard *sh, struct scrub *x, struct log_impl **l) {
    *l = shard_from(sh, x->plid);
    if (!*l && !x->wrapped) {
        x->wrapped = true;
        x->plid = 0;
        *l = shard_from(sh, 0);
    }
    return *l && !(x->wrapped && (*l)->pub.plid >= x->first_plid);
}

static void round_begin(struct log_shard *sh, struct scrub *x) {
    uint64_t random = 0;
    io_entropy(sh->io, &random, sizeof random);
    x->in_round = true;
    x->round = (struct log_scrub_stats){0};
    x->round_ns = io_mono_ns(sh->io);
    x->first_plid = x->recheck || sh->log_count == 0 ? 0 : sh->logs[random % sh->log_count]->pub.plid;
    x->wrapped = x->first_plid == 0;
    if (x->wrapped) x->first_plid = UINT64_MAX;
    x->plid = x->wrapped ? 0 : x->first_plid;
    x->base = 0;
}

static void round_end(struct log_shard *sh, struct scrub *x) {
    struct log_scrub_stats *r = &x->round, *all = &x->stats;
    x->in_round = false;
    if (x->recheck) {
        x->recheck = false;
        later(sh, LOOK_NS);
        return;
    }
    all->rounds++;
    if (r->damages > 0 || r->unreadable > 0)
        trace_error("log", "scrubber, shard %u: %llu segments, %llu bytes read: %llu damaged places, %llu segments that cannot be read", sh->index,
                    (unsigned long long)r->segments, (unsigned long long)r->bytes, (unsigned long long)r->damages,
                    (unsigned long long)r->unreadable);
    else
        trace_debug("log", "scrubber, shard %u: %llu segments, %llu bytes are sound", sh->index, (unsigned long long)r->segments,
                    (unsigned long long)r->bytes);
    int64_t waited = io_mono_ns(sh->io) - x->round_ns;
    later(sh, MAX(x->interval_ns - waited, SECOND_NS));
}

static void next(struct log_shard *sh, struct scrub *x) {
    struct log_impl *l;
    if (!x->in_round) round_begin(sh, x);
    for (int i = 0; i < LOGS_PER_LOOK; i++) {
        if (!log_next(sh, x, &l)) {
            round_end(sh, x);
            return;
        }
        if (l->pub.plid != x->plid) x->base = 0;
        const struct segment *s = segment_next_in(x, l);
        if (s) {
            x->plid = l->pub.plid;
            x->base = s->base + 1;
            x->checking = true;
            x->slice_from = 0;
            x->check = (struct check){.slice = slice_done, .done = segment_done, .owner = sh};
            check_start(&x->check, l, s, INT64_MIN, UINT32_MAX, sh->store->config.direct);
            return;
        }
        x->plid = l->pub.plid + 1;
        x->base = 0;
    }
    later(sh, LOOK_NS);
}

/* ---- pace ------------------------------------------------------------------------------------------ */

static void account(struct scrub *x, int64_t *wait_ns) {
    uint64_t bytes = x->check.bytes - x->slice_from;
    x->slice_from = x->check.bytes;
    x->stats.bytes += bytes;
    x->round.bytes += bytes;
    *wait_ns = (int64_t)((double)bytes / (double)x->bytes_per_second * (double)SECOND_NS);
}

static void slice_done(struct check *c) {
    struct log_shard *sh = c->owner;
    struct scrub *x = scrub_of(sh);
    int64_t wait_ns;
    account(x, &wait_ns);
    x->paused = true;
    if (over(sh)) scrub_stop(sh);
    else later(sh, wait_ns);
}

static void segment_done(struct check *c) {
    struct log_shard *sh = c->owner;
    struct scrub *x = scrub_of(sh);
    int64_t wait_ns;
    account(x, &wait_ns);
    x->checking = x->paused = false;
    x->stats.segments++;
    x->round.segments++;
    x->stats.damages += c->added;
    x->round.damages += c->found;
    if (c->err == ERR_IO) {
        trace_error("log", "scrubber: segment %lld of the log with plid %llu cannot be read", (long long)c->base, (unsigned long long)x->plid);
        x->stats.unreadable++;
        x->round.unreadable++;
    }
    if (!over(sh)) later(sh, wait_ns);
}

static void fire(struct timer *t) {
    struct scrub *x = CONTAINER_OF(t, struct scrub, timer);
    struct log_shard *sh = x->check.owner;
    if (over(sh)) {
        scrub_stop(sh);
    } else if (log_shard_pressure(sh) != LOG_PRESSURE_NONE) {
        later(sh, PAUSE_NS);
    } else if (x->checking) {
        x->paused = false;
        check_go(&x->check);
    } else {
        next(sh, x);
    }
}

void scrub_init(struct scrub *x) { timer_init(&x->timer, fire); }

void scrub_stop(struct log_shard *sh) {
    struct scrub *x = scrub_of(sh);
    timer_cancel(sh->timers, &x->timer);
    if (!x->paused) return;
    x->checking = x->paused = false;
    check_stop(&x->check);
}

bool scrub_busy(const struct log_shard *sh) { return scrub_of(sh)->checking; }

void log_shard_scrub(struct log_shard *sh, uint64_t bytes_per_second, int64_t interval_ms) {
    struct scrub *x = scrub_of(sh);
    x->bytes_per_second = bytes_per_second;
    x->interval_ns = MIN(interval_ms, INT64_MAX / 4 / 1000000) * 1000000;
    x->check.owner = sh;
    x->recheck = true;
    if (bytes_per_second > 0) later(sh, LOOK_NS);
}

struct log_scrub_stats log_shard_scrub_stats(const struct log_shard *sh) { return scrub_of(sh)->stats; }
