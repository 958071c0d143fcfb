/* leaders.c - the table of leaders: own replica or newest report. */
#include "server/leaders.h"
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/assert.h"
#include "base/io.h"
#include "base/trace.h"
#include "server/broker.h"
#include "server/group_coordinator.h"
#include "server/image.h"

struct entry {
    uint64_t group;
    UT_hash_handle hh;
    struct list own;                     /* in leaders.own while the own replica leads */
    struct leader_info info;
};
struct leaders {
    struct reactor *reactor;
    struct entry *by_group;
    struct list own, walks;
    uint64_t version;
    leaders_report_fn *send;
    bool full_said;
};

struct leaders *leaders_new(struct reactor *r) {
    struct leaders *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->reactor = r;
    list_init(&l->own);
    list_init(&l->walks);
    l->version = (uint64_t)io_wall_ms(r->io) << 20; /* a million changes in each millisecond that passes between two lives */
    return l;
}

void leaders_on_report(struct leaders *l, leaders_report_fn *send) { l->send = send; }

static struct entry *find(const struct leaders *l, uint64_t group) {
    struct entry *e = NULL;
    HASH_FIND(hh, l->by_group, &group, sizeof group, e);
    return e;
}

/* Whoever walks goes on behind it. */
static void leave_own(struct leaders *l, struct entry *e) {
    LIST_FOREACH(it, &l->walks) {
        struct leaders_walk *w = LIST_ENTRY(it, struct leaders_walk, link);
        if (w->at == &e->own) w->at = e->own.next;
    }
    list_remove(&e->own);
}

static void drop(struct leaders *l, struct entry *e) {
    leave_own(l, e);
    HASH_DEL(l->by_group, e);
    free(e);
}

void leaders_free(struct leaders *l) {
    if (!l) return;
    ASSERT(list_empty(&l->walks));
    struct entry *e, *next;
    HASH_ITER(hh, l->by_group, e, next) drop(l, e);
    free(l);
}

/* NULL: there is no room for what others say (`own` is always kept), or no memory. */
static struct entry *get(struct leaders *l, uint64_t group, bool own) {
    struct entry *e = find(l, group);
    if (e) return e;
    int64_t max = reactor_config(l->reactor)->max_topic_partitions + (int64_t)LEADERS_EXTRA;
    if (!own && (int64_t)HASH_COUNT(l->by_group) >= max) {
        if (!l->full_said) trace_warn("leaders", "reports about more than %lld partitions: the rest is not kept", (long long)max);
        l->full_said = true;
        return NULL;
    }
    e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->group = group;
    e->info = (struct leader_info){.epoch = -1, .leader = -1};
    list_init(&e->own);
    HASH_ADD(hh, l->by_group, group, sizeof e->group, e);
    return e;
}

const struct leader_info *leaders_get(const struct reactor *r, uint64_t group) {
    const struct entry *e = find(r->leaders, group);
    return e ? &e->info : NULL;
}

bool leader_in_sync(const struct leader_info *info, int32_t node) {
    for (uint8_t i = 0; i < info->count; i++)
        if (info->members[i] == node) return info->in_sync >> i & 1;
    return false;
}

static bool valid(const struct leader_info *i) {
    return i->epoch >= 0 && i->leader >= -1 && i->count <= LEADER_MEMBERS_MAX && i->voters <= i->count && i->in_sync >> i->count == 0;
}

static bool says_the_same(const struct leader_info *a, const struct leader_info *b) {
    return a->epoch == b->epoch && a->leader == b->leader && a->established == b->established && a->voters == b->voters &&
           a->count == b->count && a->in_sync == b->in_sync && memcmp(a->members, b->members, a->count * sizeof *a->members) == 0;
}

void leaders_report(struct reactor *r, uint64_t group, const struct leader_info *info) {
    struct leaders *l = r->leaders;
    int32_t self = r->broker->config.node_id;
    if (r->groups) group_set_leadership(r->groups, group);
    ASSERT(valid(info) && (info->leader == self || info->leader == -1));
    struct entry *e = get(l, group, true);
    if (!e) {
        trace_error("leaders", "out of memory: nobody is told who leads group %llu", (unsigned long long)group);
        return;
    }
    if (info->epoch < e->info.epoch) { /* another one leads by now */
        leave_own(l, e);
        return;
    }
    if (says_the_same(&e->info, info) || (info->leader == -1 && e->info.leader == -1 && info->epoch == e->info.epoch)) return;
    uint64_t before = info->epoch == e->info.epoch ? e->info.version : 0;
    struct leader_info last = e->info;
    e->info = *info;
    if (info->leader == -1 && last.leader == self && last.epoch == info->epoch) { /* who was in sync when it ended is still of interest */
        e->info = last;
        e->info.leader = -1;
        e->info.established = false;
    }
    e->info.version = l->version = MAX(l->version, before) + 1;
    e->info.since_ns = r->now_ns;
    leave_own(l, e);
    if (info->leader == self) list_push_back(&l->own, &e->own);
    if (l->send) l->send(r, group, &e->info);
}

void leaders_follow(struct reactor *r, uint64_t group, int32_t epoch, int32_t leader) {
    const struct entry *known = find(r->leaders, group);
    if (known && known->info.epoch >= epoch) return;
    struct entry *e = get(r->leaders, group, true);
    if (!e) return; /* as if the report was lost; the next one will do */
    leave_own(r->leaders, e);
    e->info = (struct leader_info){.epoch = epoch, .leader = leader, .since_ns = r->now_ns};
}

void leaders_learn(struct reactor *r, uint64_t group, const struct leader_info *info) {
    if (!valid(info) || info->leader == r->broker->config.node_id) return;
    struct entry *e = get(r->leaders, group, false);
    if (!e) return;
    if (info->epoch < e->info.epoch || (info->epoch == e->info.epoch && info->version <= e->info.version)) return;
    leave_own(r->leaders, e);
    e->info = *info;
    e->info.since_ns = r->now_ns;
}

void leaders_forget(struct reactor *r, uint64_t group) {
    struct entry *e = find(r->leaders, group);
    if (!e) return;
    leave_own(r->leaders, e);
    if (e->info.leader == r->broker->config.node_id) e->info.leader = -1;
}

void leaders_image(struct reactor *r, const struct image *im) {
    for (uint32_t i = 0; i < im->change_count; i++) {
        const struct image_change *c = &im->changes[i];
        if (c->kind != IMAGE_PARTITION_REMOVED || c->partition >= 0) continue; /* the replica here is removed: the group lives on */
        for (int32_t k = 0; k < c->topic->partition_count; k++) {
            struct entry *e = find(r->leaders, c->topic->partitions[k].plid);
            if (e) drop(r->leaders, e);
        }
    }
}

void leaders_walk_begin(struct reactor *r, struct leaders_walk *w) {
    w->at = r->leaders->own.next;
    list_push_back(&r->leaders->walks, &w->link);
}

const struct leader_info *leaders_walk_next(struct reactor *r, struct leaders_walk *w, uint64_t *group) {
    if (w->at == &r->leaders->own) return NULL;
    const struct entry *e = LIST_ENTRY(w->at, struct entry, own);
    w->at = w->at->next;
    *group = e->group;
    return &e->info;
}

void leaders_walk_end(struct leaders_walk *w) { list_remove(&w->link); }
