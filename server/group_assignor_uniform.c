/* The uniform assignor. All partitions are numbered through, topic by topic; `owner` says for each who is to have it.
 *
 *   1. Everybody keeps what they have, if it exists and they subscribe to it.
 *   2. Equal subscriptions: each keeps at most its share, total / members, one more for as many as the remainder says.
 *      Others: what nobody has goes to the subscriber with the least, topics with few subscribers first.
 *   3. Equal: what is left fills the shares. Others: partitions move from the subscriber with the most to the one with
 *      the least of a topic while they differ by two or more. A move makes the sum of squares of the loads smaller, so it ends;
 *      the number of rounds is bounded all the same. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/group_assignor.h"

enum { NOBODY = -1, ROUNDS_MAX = 64 };

struct plan {
    struct assignor_input *in;
    struct arena *arena;
    uint32_t *base;       /* number of the first partition of each topic; one more for the end */
    int32_t *owner;       /* by number: index of a member, or NOBODY */
    uint32_t *load;       /* by member */
    uint32_t total;
};

static bool subscribes(const struct assignor_member *m, uint32_t topic) {
    uint32_t low = 0, high = m->topics_n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (m->topics[mid] < topic) low = mid + 1;
        else high = mid;
    }
    return low < m->topics_n && m->topics[low] == topic;
}

static int64_t topic_index(const struct assignor_input *in, const struct uuid *id) {
    uint32_t low = 0, high = in->topics_n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (memcmp(&in->topics[mid].id, id, sizeof *id) < 0) low = mid + 1;
        else high = mid;
    }
    return low < in->topics_n && uuid_eq(&in->topics[low].id, id) ? (int64_t)low : -1;
}

static enum err plan_init(struct plan *p) {
    struct assignor_input *in = p->in;
    p->base = arena_array(p->arena, in->topics_n + 1u, sizeof *p->base);
    p->load = arena_array(p->arena, MAX(in->members_n, 1u), sizeof *p->load);
    uint8_t *wanted = arena_array(p->arena, MAX(in->topics_n, 1u), 1);
    if (!p->base || !p->load || !wanted) return ERR_NOMEM;
    for (uint32_t m = 0; m < in->members_n; m++) {
        if (m > 0 && in->members[m].topics == in->members[m - 1].topics) continue;
        for (uint32_t i = 0; i < in->members[m].topics_n; i++) wanted[in->members[m].topics[i]] = 1;
    }
    uint64_t total = 0;
    for (uint32_t t = 0; t < in->topics_n; t++) {
        p->base[t] = (uint32_t)total;
        if (wanted[t]) total += (uint32_t)in->topics[t].partitions;
        if (total > INT32_MAX) return ERR_NOMEM;
    }
    p->base[in->topics_n] = p->total = (uint32_t)total;
    p->owner = arena_array(p->arena, MAX(p->total, 1u), sizeof *p->owner);
    if (!p->owner) return ERR_NOMEM;
    for (uint32_t i = 0; i < p->total; i++) p->owner[i] = NOBODY;
    return OK;
}

/* Step 1, up to `share(m)` partitions for each. */
static void keep(struct plan *p, bool equal) {
    struct assignor_input *in = p->in;
    uint32_t quota = in->members_n ? p->total / in->members_n : 0, longer = in->members_n ? p->total % in->members_n : 0;
    for (uint32_t m = 0; m < in->members_n; m++) {
        const struct assignor_member *member = &in->members[m];
        int64_t topic = -1;
        for (uint32_t i = 0; i < member->current.n; i++) {
            const struct group_part *part = &member->current.list[i];
            if (i == 0 || !uuid_eq(&part->topic, &member->current.list[i - 1].topic)) {
                topic = topic_index(in, &part->topic);
                if (topic >= 0 && !subscribes(member, (uint32_t)topic)) topic = -1;
            }
            if (topic < 0 || part->partition >= in->topics[topic].partitions) continue;
            uint32_t number = p->base[topic] + (uint32_t)part->partition;
            if (p->owner[number] != NOBODY) continue;
            if (equal && p->load[m] == quota) {
                if (longer == 0) break;
                longer--;
            } else if (equal && p->load[m] > quota) {
                break;
            }
            p->owner[number] = (int32_t)m;
            p->load[m]++;
        }
    }
}

/* Steps 2 and 3 with equal subscriptions: those below the quota first, then the rest one each. */
static void fill(struct plan *p) {
    uint32_t members = p->in->members_n, quota = p->total / members, m = 0;
    bool last = false; /* the round of those that get one more */
    for (uint32_t number = 0; number < p->total; number++) {
        if (p->owner[number] != NOBODY) continue;
        while (p->load[m] >= quota + last) {
            if (++m == members) {
                ASSERT(!last);
                last = true;
                m = 0;
            }
        }
        p->owner[number] = (int32_t)m;
        p->load[m]++;
    }
}

/* ---- different subscriptions ---- */

struct subscribers { uint32_t topic, n; uint32_t *members; };

static int fewest_first(const void *a, const void *b) {
    const struct subscribers *x = a, *y = b;
    return x->n != y->n ? (x->n > y->n) - (x->n < y->n) : (x->topic > y->topic) - (x->topic < y->topic);
}

static struct subscribers *subscribers_of_topics(struct plan *p) {
    struct assignor_input *in = p->in;
    struct subscribers *list = arena_array(p->arena, MAX(in->topics_n, 1u), sizeof *list);
    if (!list) return NULL;
    for (uint32_t t = 0; t < in->topics_n; t++) list[t].topic = t;
    for (uint32_t m = 0; m < in->members_n; m++)
        for (uint32_t i = 0; i < in->members[m].topics_n; i++) list[in->members[m].topics[i]].n++;
    for (uint32_t t = 0; t < in->topics_n; t++) {
        list[t].members = arena_array(p->arena, MAX(list[t].n, 1u), sizeof *list[t].members);
        if (!list[t].members) return NULL;
        list[t].n = 0;
    }
    for (uint32_t m = 0; m < in->members_n; m++) {
        for (uint32_t i = 0; i < in->members[m].topics_n; i++) {
            struct subscribers *s = &list[in->members[m].topics[i]];
            s->members[s->n++] = m;
        }
    }
    qsort(list, in->topics_n, sizeof *list, fewest_first);
    return list;
}

static uint32_t least_loaded(const struct plan *p, const struct subscribers *s) {
    uint32_t least = s->members[0];
    for (uint32_t i = 1; i < s->n; i++)
        if (p->load[s->members[i]] < p->load[least]) least = s->members[i];
    return least;
}

/* One move within the topic, if it makes things more even. */
static bool move_one(struct plan *p, const struct subscribers *s) {
    uint32_t most = 0;
    int64_t from = -1;
    for (uint32_t number = p->base[s->topic]; number < p->base[s->topic + 1]; number++) {
        uint32_t load = p->load[p->owner[number]];
        if (from >= 0 && load <= most) continue;
        most = load;
        from = number;
    }
    if (from < 0) return false;
    uint32_t to = least_loaded(p, s);
    if (most < p->load[to] + 2) return false;
    p->load[p->owner[from]]--;
    p->owner[from] = (int32_t)to;
    p->load[to]++;
    return true;
}

static enum err balance(struct plan *p) {
    struct subscribers *list = subscribers_of_topics(p);
    if (!list) return ERR_NOMEM;
    for (uint32_t t = 0; t < p->in->topics_n; t++) {
        if (list[t].n == 0) continue;
        for (uint32_t number = p->base[list[t].topic]; number < p->base[list[t].topic + 1]; number++) {
            if (p->owner[number] != NOBODY) continue;
            uint32_t to = least_loaded(p, &list[t]);
            p->owner[number] = (int32_t)to;
            p->load[to]++;
        }
    }
    bool moved = true;
    for (int round = 0; round < ROUNDS_MAX && moved; round++) {
        moved = false;
        for (uint32_t t = 0; t < p->in->topics_n; t++)
            while (list[t].n > 1 && move_one(p, &list[t])) moved = true;
    }
    return OK;
}

static enum err targets(struct plan *p) {
    struct assignor_input *in = p->in;
    for (uint32_t m = 0; m < in->members_n; m++) {
        enum err err = group_parts_room(&in->members[m].target, p->load[m], p->arena);
        if (err != OK) return err;
    }
    for (uint32_t t = 0; t < in->topics_n; t++) {
        for (uint32_t number = p->base[t]; number < p->base[t + 1]; number++) {
            ASSERT(p->owner[number] != NOBODY);
            group_parts_add(&in->members[p->owner[number]].target, &in->topics[t].id, (int32_t)(number - p->base[t]), 0);
        }
    }
    return OK;
}

static bool equal_subscriptions(const struct assignor_input *in) {
    for (uint32_t m = 1; m < in->members_n; m++) {
        const struct assignor_member *a = &in->members[m - 1], *b = &in->members[m];
        if (a->topics_n != b->topics_n) return false;
        if (a->topics_n && a->topics != b->topics && memcmp(a->topics, b->topics, a->topics_n * sizeof *a->topics) != 0) return false;
    }
    return true;
}

enum err assignor_uniform(struct assignor_input *in, struct arena *arena) {
    assignor_order(in);
    struct plan p = {.in = in, .arena = arena};
    enum err err = plan_init(&p);
    if (err != OK || in->members_n == 0) return err;
    bool equal = equal_subscriptions(in);
    keep(&p, equal);
    if (equal) fill(&p);
    else err = balance(&p);
    return err == OK ? targets(&p) : err;
}
