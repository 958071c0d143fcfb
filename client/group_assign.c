/* group_assign.c - see group_assign.h.
 *
 * All work is on one array of rows, one for each partition that anybody wants, ascending by topic and
 * number; a row's member is an index into the members, who are sorted: static ones first, by their ids. */
#include "client/group_assign.h"

#include <limits.h>
#include <stdlib.h>

#include "base/compiler.h"

enum { NOBODY = -1, PARTITIONS_MAX = 1 << 20 };

struct work {
    const struct assign_input *in;
    struct assign_row *rows;
    int32_t row_count;
    int32_t *order;               /* members, sorted */
    int32_t *load;                /* partitions of each member */
    int32_t *owner;               /* of each row: who has it now (NOBODY) */
    bool *disputed;               /* two say so */
};

static int compare_str(struct str a, struct str b) {
    int order = memcmp(a.p, b.p, (size_t)MIN(a.len, b.len));
    return order ? order : a.len - b.len;
}

static int compare_members(const struct assign_member *a, const struct assign_member *b) {
    if (!a->instance_id != !b->instance_id) return a->instance_id ? -1 : 1;
    return a->instance_id ? strcmp(a->instance_id, b->instance_id) : strcmp(a->id, b->id);
}

static int compare_topics(const void *a, const void *b) {
    return compare_str(((const struct assign_topic *)a)->name, ((const struct assign_topic *)b)->name);
}

static bool wants(const struct assign_member *m, struct str topic) {
    for (int32_t i = 0; i < m->topic_count; i++) {
        if (str_eq(m->topics[i], topic)) return true;
    }
    return false;
}

/* ---- range and roundrobin --------------------------------------------------------------------- */

static void range(struct work *w) {
    for (int32_t at = 0, n; at < w->row_count; at += n) {
        struct str topic = w->rows[at].topic;
        int32_t members = 0, next = at;
        for (n = 1; at + n < w->row_count && str_eq(w->rows[at + n].topic, topic); n++) continue;
        for (int32_t i = 0; i < w->in->member_count; i++) members += wants(&w->in->members[i], topic);
        for (int32_t i = 0, taken = 0; i < w->in->member_count; i++) {
            if (!wants(&w->in->members[w->order[i]], topic)) continue;
            int32_t share = n / members + (taken++ < n % members);
            for (; share > 0; share--) w->rows[next++].member = w->order[i];
        }
    }
}

static void round_robin(struct work *w) {
    int32_t at = 0;
    for (int32_t i = 0; i < w->row_count; i++) {
        while (!wants(&w->in->members[w->order[at]], w->rows[i].topic)) at = (at + 1) % w->in->member_count;
        w->rows[i].member = w->order[at];
        at = (at + 1) % w->in->member_count;
    }
}

/* ---- cooperative-sticky ----------------------------------------------------------------------- */

static int32_t find_row(const struct work *w, const struct assign_partition *p) {
    int32_t low = 0, high = w->row_count;
    while (low < high) {
        int32_t mid = low + (high - low) / 2;
        int order = compare_str(w->rows[mid].topic, p->topic);
        if (order == 0) order = (w->rows[mid].partition > p->partition) - (w->rows[mid].partition < p->partition);
        if (order == 0) return mid;
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return NOBODY;
}

/* Who says that it has each partition: the newest generation counts, two of the same are none. */
static void claims(struct work *w) {
    for (int32_t i = 0; i < w->row_count; i++) w->owner[i] = NOBODY;
    for (int32_t m = 0; m < w->in->member_count; m++) {
        const struct assign_member *member = &w->in->members[m];
        for (int32_t i = 0; i < member->owned_count; i++) {
            int32_t row = member->owned[i].topic.p ? find_row(w, &member->owned[i]) : NOBODY;
            if (row == NOBODY) continue;
            int32_t before = w->owner[row];
            if (before == m) continue;
            int32_t than = before == NOBODY ? INT32_MIN : w->in->members[before].generation;
            if (before != NOBODY && than > member->generation) continue; /* it has missed that it lost it */
            w->disputed[row] = before != NOBODY && than == member->generation;
            w->owner[row] = m;
        }
    }
}

/* The member with the fewest partitions among those that want the topic. */
static int32_t least_loaded(const struct work *w, struct str topic) {
    int32_t best = NOBODY;
    for (int32_t i = 0; i < w->in->member_count; i++) {
        int32_t m = w->order[i];
        if (wants(&w->in->members[m], topic) && (best == NOBODY || w->load[m] < w->load[best])) best = m;
    }
    return best;
}

/* Each move lowers the sum of the squares of the loads, so this ends. `theirs`: those too whom a member has already. */
static bool level(struct work *w, bool theirs) {
    bool moved = false;
    for (int32_t i = w->row_count - 1; i >= 0; i--) {
        int32_t from = w->rows[i].member, to = least_loaded(w, w->rows[i].topic);
        if (w->load[from] <= w->load[to] + 1 || (!theirs && w->owner[i] == from)) continue;
        w->rows[i].member = to;
        w->load[from]--;
        w->load[to]++;
        moved = true;
    }
    return moved;
}

static void sticky(struct work *w) {
    claims(w);
    for (int32_t i = 0; i < w->row_count; i++) {
        int32_t m = w->owner[i];
        if (m == NOBODY || !wants(&w->in->members[m], w->rows[i].topic)) continue;
        w->rows[i].member = m;
        w->load[m]++;
    }
    for (int32_t i = 0; i < w->row_count; i++) {
        if (w->rows[i].member != NOBODY) continue;
        w->rows[i].member = least_loaded(w, w->rows[i].topic);
        w->load[w->rows[i].member]++;
    }
    while (level(w, false)) continue;
    while (level(w, true)) while (level(w, false)) continue;
    for (int32_t i = 0; i < w->row_count; i++) { /* first it must be given back */
        if (w->owner[i] != NOBODY && (w->owner[i] != w->rows[i].member || w->disputed[i])) w->rows[i].member = NOBODY;
    }
}

/* ---- the frame -------------------------------------------------------------------------------- */

static void sort_members(struct work *w) {
    for (int32_t i = 0; i < w->in->member_count; i++) { /* few, and nearly always in order */
        int32_t at = i;
        while (at > 0 && compare_members(&w->in->members[w->order[at - 1]], &w->in->members[i]) > 0) {
            w->order[at] = w->order[at - 1];
            at--;
        }
        w->order[at] = i;
    }
}

/* A row for each partition that somebody wants. */
static enum err make_rows(struct work *w) {
    int64_t count = 0;
    if (w->in->topic_count > 1) qsort(w->in->topics, (size_t)w->in->topic_count, sizeof *w->in->topics, compare_topics);
    for (int32_t i = 0; i < w->in->topic_count; i++) count += MAX(w->in->topics[i].partition_count, 0);
    if (count > PARTITIONS_MAX) return ERR_TOO_LARGE;
    w->rows = calloc((size_t)count + 1, sizeof *w->rows);
    if (!w->rows) return ERR_NOMEM;
    for (int32_t i = 0; i < w->in->topic_count; i++) {
        const struct assign_topic *t = &w->in->topics[i];
        bool wanted = false;
        for (int32_t m = 0; m < w->in->member_count && !wanted; m++) wanted = wants(&w->in->members[m], t->name);
        for (int32_t p = 0; wanted && p < t->partition_count; p++) w->rows[w->row_count++] = (struct assign_row){t->name, p, NOBODY};
    }
    return OK;
}

bool assignors_known(const char *list) {
    static const char *const names[ASSIGNOR_COUNT] = {"range", "roundrobin", "cooperative-sticky"};
    int count = 0;
    do {
        size_t len = strcspn(list, ",");
        bool known = false;
        for (int i = 0; i < ASSIGNOR_COUNT; i++) known |= strlen(names[i]) == len && memcmp(names[i], list, len) == 0;
        if (!known || ++count > ASSIGNOR_COUNT) return false;
        list += len;
    } while (*list++ == ',');
    return true;
}

enum err group_assign(const char *assignor, const struct assign_input *in, struct assign_output *out) {
    struct work w = {.in = in};
    *out = (struct assign_output){0};
    if (!*assignor || strchr(assignor, ',') || !assignors_known(assignor)) return ERR_UNSUPPORTED;
    enum err err = make_rows(&w);
    w.order = calloc((size_t)in->member_count + 1, sizeof *w.order);
    w.load = calloc((size_t)in->member_count + 1, sizeof *w.load);
    w.owner = calloc((size_t)w.row_count + 1, sizeof *w.owner);
    w.disputed = calloc((size_t)w.row_count + 1, sizeof *w.disputed);
    if (!err && (!w.order || !w.load || !w.owner || !w.disputed)) err = ERR_NOMEM;
    if (!err) {
        sort_members(&w);
        if (strcmp(assignor, "range") == 0) range(&w);
        else if (strcmp(assignor, "roundrobin") == 0) round_robin(&w);
        else sticky(&w);
        for (int32_t i = 0; i < w.row_count; i++) {
            if (w.rows[i].member != NOBODY) w.rows[out->count++] = w.rows[i];
        }
        out->rows = w.rows;
        w.rows = NULL;
    }
    free(w.rows);
    free(w.order);
    free(w.load);
    free(w.owner);
    free(w.disputed);
    return err;
}

void assign_free(struct assign_output *out) {
    free(out->rows);
    *out = (struct assign_output){0};
}
