/* quota_table.c - see quota_table.h. */
#include "server/quota_table.h"
#include <stdlib.h>
#include <xxhash.h>

struct quota_table *quota_table_new(uint64_t seed) {
    struct quota_table *t = calloc(1, sizeof *t);
    if (t) t->seed = seed;
    return t;
}

uint64_t quota_name(const struct quota_table *t, uint32_t kind, double rate, struct str user, struct str client) {
    uint64_t user_hash = user.p ? XXH3_64bits_withSeed(user.p, (size_t)user.len, t->seed) : 1;
    uint64_t client_hash = client.p ? XXH3_64bits_withSeed(client.p, (size_t)client.len, t->seed) : 1;
    uint64_t all[4] = {kind, 0, user_hash, client_hash};
    memcpy(&all[1], &rate, sizeof rate);
    uint64_t name = XXH3_64bits_withSeed(all, sizeof all, t->seed);
    return name ? name : 1;
}

/* The bucket of that name, or a slot that is made it. Between finding and using it another name may take the slot over:
 * one of the two then pays for the other, once. */
static struct quota_bucket *find(struct quota_table *t, uint64_t name, int64_t now_ns) {
    struct quota_bucket *best = NULL;
    int64_t best_full_ns = INT64_MAX;
    for (uint64_t i = 0; i < QUOTA_PROBES; i++) {
        struct quota_bucket *b = &t->slots[(name + i) % QUOTA_SLOTS];
        uint64_t is = atomic_load_explicit(&b->name, memory_order_relaxed);
        if (is == name) return b;
        int64_t full_ns = is ? atomic_load_explicit(&b->full_ns, memory_order_relaxed) : INT64_MIN;
        if (full_ns >= best_full_ns) continue;
        best = b;
        best_full_ns = full_ns;
    }
    atomic_store_explicit(&best->full_ns, now_ns, memory_order_relaxed);
    atomic_store_explicit(&best->name, name, memory_order_relaxed);
    return best;
}

static int64_t cost_ns(const struct quota_limit *l, double tokens) {
    double ns = tokens / l->rate * 1e9;
    return ns < (double)QUOTA_DEBT_NS_MAX ? (int64_t)ns : QUOTA_DEBT_NS_MAX;
}

static int64_t overdraft(const struct quota_limit *l, int64_t full_ns, int64_t now_ns) {
    return MAX(full_ns - now_ns - l->burst_ns, 0);
}

static int64_t later(int64_t full_ns, int64_t cost, int64_t now_ns) {
    return MIN(MAX(full_ns, now_ns) + cost, now_ns + QUOTA_DEBT_NS_MAX);
}

int64_t quota_take(struct quota_table *t, const struct quota_limit *l, double tokens, int64_t now_ns) {
    struct quota_bucket *b = find(t, l->name, now_ns);
    int64_t cost = cost_ns(l, tokens), was = atomic_load_explicit(&b->full_ns, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&b->full_ns, &was, later(was, cost, now_ns), memory_order_relaxed,
                                                  memory_order_relaxed)) {}
    return overdraft(l, later(was, cost, now_ns), now_ns);
}

int64_t quota_try(struct quota_table *t, const struct quota_limit *l, double tokens, int64_t now_ns) {
    struct quota_bucket *b = find(t, l->name, now_ns);
    int64_t cost = cost_ns(l, tokens), was = atomic_load_explicit(&b->full_ns, memory_order_relaxed);
    for (;;) {
        int64_t full_ns = later(was, cost, now_ns), over = overdraft(l, full_ns, now_ns);
        /* What exceeds the burst waits until the bucket is full, not longer. */
        if (over > 0 && was > now_ns) return MIN(over, was - now_ns);
        if (atomic_compare_exchange_weak_explicit(&b->full_ns, &was, full_ns, memory_order_relaxed, memory_order_relaxed)) return 0;
    }
}

int64_t quota_overdrawn(struct quota_table *t, const struct quota_limit *l, int64_t now_ns) {
    return overdraft(l, atomic_load_explicit(&find(t, l->name, now_ns)->full_ns, memory_order_relaxed), now_ns);
}
