#include <stdlib.h>
#include "base/assert.h"
#include "server/group_assignor.h"

assignor_fn *assignor_by_name(struct str name) {
    if (str_is(name, "uniform")) return assignor_uniform;
    if (str_is(name, "range")) return assignor_range;
    return NULL;
}

static int str_order(struct str a, struct str b) {
    int order = memcmp(a.p, b.p, (size_t)MIN(a.len, b.len));
    return order ? order : (a.len > b.len) - (a.len < b.len);
}
static int member_order(const void *a, const void *b) {
    const struct assignor_member *x = a, *y = b;
    bool x_static = x->instance_id.p != NULL, y_static = y->instance_id.p != NULL;
    if (x_static != y_static) return x_static ? -1 : 1;
    int order = x_static ? str_order(x->instance_id, y->instance_id) : 0;
    return order ? order : str_order(x->id, y->id);
}
void assignor_order(struct assignor_input *in) {
    if (in->members_n > 1) qsort(in->members, in->members_n, sizeof *in->members, member_order);
}

uint64_t assignor_cost(const struct assignor_input *in) {
    uint64_t cost = in->members_n;
    for (uint32_t t = 0; t < in->topics_n; t++) cost += (uint64_t)in->topics[t].partitions;
    for (uint32_t m = 0; m < in->members_n; m++) cost += in->members[m].topics_n + in->members[m].current.n;
    return cost;
}

/* What is left of a topic for the subscribers that have not had their turn. */
struct range { int32_t next, quota, longer; }; /* next partition; per member; members that get one more */

enum err assignor_range(struct assignor_input *in, struct arena *arena) {
    assignor_order(in);
    struct range *ranges = arena_array(arena, MAX(in->topics_n, 1u), sizeof *ranges);
    uint32_t *subscribers = arena_array(arena, MAX(in->topics_n, 1u), sizeof *subscribers);
    if (!ranges || !subscribers) return ERR_NOMEM;
    for (uint32_t m = 0; m < in->members_n; m++)
        for (uint32_t i = 0; i < in->members[m].topics_n; i++) subscribers[in->members[m].topics[i]]++;
    for (uint32_t t = 0; t < in->topics_n; t++)
        if (subscribers[t])
            ranges[t] = (struct range){0, in->topics[t].partitions / (int32_t)subscribers[t], in->topics[t].partitions % (int32_t)subscribers[t]};
    for (uint32_t m = 0; m < in->members_n; m++) {
        struct assignor_member *member = &in->members[m];
        size_t total = 0;
        for (uint32_t i = 0; i < member->topics_n; i++) total += (size_t)ranges[member->topics[i]].quota + 1;
        enum err err = group_parts_room(&member->target, total, arena);
        if (err != OK) return err;
        for (uint32_t i = 0; i < member->topics_n; i++) {
            struct range *r = &ranges[member->topics[i]];
            int32_t end = r->next + r->quota + (r->longer > 0);
            for (; r->next < end; r->next++) group_parts_add(&member->target, &in->topics[member->topics[i]].id, r->next, 0);
            if (r->longer > 0) r->longer--;
        }
    }
    return OK;
}
