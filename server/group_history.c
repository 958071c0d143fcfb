/* group_history.c - see group_history.h. */
#include "server/group_history.h"

#include "base/assert.h"

static struct history_id id_of(struct str s) {
    struct history_id id = {0};
    id.len = (uint8_t)MIN(s.p ? s.len : 0, HISTORY_ID_BYTES);
    if (id.len > 0) memcpy(id.text, s.p, id.len);
    return id;
}

static struct rebalance *newest(struct group_history *h) { return &h->ring[(h->count - 1) % HISTORY_MAX]; }

void group_history_init(struct group_history *h, int32_t epoch) { *h = (struct group_history){.epoch = epoch}; }

void group_history_note(struct group_history *h, enum history_cause cause, struct str member, bool joining, int64_t now_ms) {
    h->cause = cause;
    h->by = id_of(member);
    if (!h->in_rebalance || !joining) return;
    struct rebalance *r = newest(h);
    r->last = h->by;
    r->last_after_ms = MAX(now_ms - r->begun_ms, (int64_t)0);
}

static bool same(const struct history_id *a, const struct history_id *b) { return a->len == b->len && memcmp(a->text, b->text, a->len) == 0; }

/* One that passed at once goes on, when what caused it has further consequences. */
static bool goes_on(struct group_history *h, int64_t now_ms) {
    const struct rebalance *r = h->count > 0 ? newest(h) : NULL;
    return r && r->elapsed_ms == 0 && now_ms - r->begun_ms <= 1 && r->cause == h->cause && same(&r->by, &h->by);
}

static void begin(struct group_history *h, int64_t now_ms) {
    if (!goes_on(h, now_ms)) h->count++;
    *newest(h) = (struct rebalance){.begun_ms = now_ms, .elapsed_ms = -1, .epoch = h->epoch, .cause = h->cause, .by = h->by, .last = h->by};
}

static void end(struct group_history *h, int32_t epoch, int32_t members, int64_t now_ms) {
    struct rebalance *r = newest(h);
    r->elapsed_ms = MAX(now_ms - r->begun_ms, (int64_t)0);
    r->epoch = epoch;
    r->members = members;
}

void group_history_see(struct group_history *h, bool in_rebalance, int32_t epoch, int32_t members, int64_t now_ms) {
    bool began = in_rebalance && !h->in_rebalance, passed = !in_rebalance && !h->in_rebalance && epoch != h->epoch;
    if (began || passed) begin(h, now_ms);
    if (passed || (h->in_rebalance && !in_rebalance)) end(h, epoch, members, now_ms);
    if (in_rebalance) {
        newest(h)->epoch = epoch;
        newest(h)->members = members;
    }
    h->in_rebalance = in_rebalance;
    h->epoch = epoch;
}

uint32_t group_history_size(const struct group_history *h) { return MIN(h->count, (uint32_t)HISTORY_MAX); }

const struct rebalance *group_history_at(const struct group_history *h, uint32_t i) {
    ASSERT(i < group_history_size(h));
    return &h->ring[(h->count - group_history_size(h) + i) % HISTORY_MAX];
}
