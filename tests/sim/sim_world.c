/* The world: its clock and events, its hash, the faults that were asked for, and a view of its
 * disks for tests. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "tests/sim/sim_world.h"

/* ---- hash, events, time ---------------------------------------------------------------- */

void sim_note(struct sim_world *w, uint64_t what, uint64_t a, uint64_t b, uint64_t c) {
    const uint64_t values[] = {what, a, b, c, (uint64_t)w->now_ns};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct prng mix = {w->hash ^ values[i]};
        w->hash = prng_next(&mix);
    }
}

static bool event_before(const struct sim_event *a, const struct sim_event *b) {
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->seq < b->seq;
}

struct sim_event *sim_schedule(struct sim_world *w, int64_t time_ns, size_t len,
                               void (*fire)(struct sim_world *w, struct sim_event *e)) {
    struct sim_event *e = malloc(sizeof *e + len);
    ASSERT(e);
    *e = (struct sim_event){.time_ns = time_ns, .seq = w->next_seq++, .fire = fire, .len = len};
    if (w->event_count == w->event_cap) {
        w->event_cap = w->event_cap ? w->event_cap * 2 : 64;
        w->heap = realloc(w->heap, w->event_cap * sizeof(*w->heap));
        ASSERT(w->heap);
    }
    size_t i = w->event_count++;
    for (; i > 0 && event_before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
    return e;
}

static struct sim_event *event_pop(struct sim_world *w) {
    struct sim_event *first = w->heap[0], *last = w->heap[--w->event_count];
    size_t i = 0;
    for (;;) {
        size_t child = i * 2 + 1;
        if (child >= w->event_count) break;
        if (child + 1 < w->event_count && event_before(w->heap[child + 1], w->heap[child])) child++;
        if (!event_before(w->heap[child], last)) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->event_count > 0) w->heap[i] = last;
    return first;
}

/* Fires everything that is due. */
bool sim_fire_due(struct sim_world *w) {
    bool fired = false;
    while (w->event_count > 0 && w->heap[0]->time_ns <= w->now_ns) {
        struct sim_event *e = event_pop(w);
        sim_note(w, 'e', e->seq, (uint64_t)e->time_ns, e->len);
        e->fire(w, e);
        free(e);
        fired = true;
    }
    return fired;
}

int64_t sim_next_event_ns(const struct sim_world *w) { return w->event_count > 0 ? w->heap[0]->time_ns : INT64_MAX; }

bool sim_advance(struct sim_world *w, int64_t limit_ns) {
    if (w->event_count > 0 && w->heap[0]->time_ns <= limit_ns) {
        w->now_ns = MAX(w->now_ns, w->heap[0]->time_ns);
        return sim_fire_due(w);
    }
    w->now_ns = MAX(w->now_ns, limit_ns);
    return false;
}

int64_t sim_net_delay(struct sim_world *w) {
    return (int64_t)prng_between(&w->net_prng, (uint64_t)w->tuning.net_ns_min, (uint64_t)w->tuning.net_ns_max);
}

struct sim_world *sim_world_new(uint64_t seed) {
    struct sim_world *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    struct prng root = {seed};
    w->disk_prng.state = prng_next(&root);
    w->net_prng.state = prng_next(&root);
    w->crash_prng.state = prng_next(&root);
    w->entropy_prng.state = prng_next(&root);
    w->hash = seed;
    w->now_ns = START_NS;
    w->next_port = 20000;
    w->tuning = (struct sim_tuning){.disk_ns_min = 20000, .disk_ns_max = 2000000, .net_ns_min = 10000, .net_ns_max = 500000};
    list_init(&w->sockets);
    list_init(&w->listeners);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        disk_init(&w->nodes[i].disk);
        list_init(&w->nodes[i].faults);
    }
    return w;
}

void sim_world_free(struct sim_world *w) {
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        struct sim_node *n = &w->nodes[i];
        sim_faults_clear(w, i);
        disk_free(&n->disk);
        for (size_t h = 0; h < n->handle_count; h++) free(n->handles[h].path);
        free(n->handles);
    }
    for (size_t i = 0; i < w->event_count; i++) free(w->heap[i]);
    free(w->heap);
    net_free(w);
    free(w);
}

uint64_t sim_hash(const struct sim_world *w) { return w->hash; }
int64_t sim_now_ns(const struct sim_world *w) { return w->now_ns; }
struct sim_tuning *sim_tuning(struct sim_world *w) { return &w->tuning; }
struct sim_fatal *sim_fatal(struct sim_world *w) { return &w->fatal; }
void sim_wall_jump(struct sim_world *w, unsigned node, int64_t ms) { w->nodes[node].wall_jump_ms += ms; }
bool sim_crashed(const struct sim_world *w, unsigned node) { return w->nodes[node].down; }
uint64_t sim_disk_ops(const struct sim_world *w, unsigned node) { return w->nodes[node].disk_ops; }
void sim_crash_at(struct sim_world *w, unsigned node, uint64_t op) { w->nodes[node].crash_at = op; }

void sim_disk_replace(struct sim_world *w, unsigned node) {
    struct sim_disk *d = &w->nodes[node].disk;
    int64_t *wall_ms = d->wall_ms;
    sim_note(w, 'D', node, d->next_number, 0);
    disk_free(d);
    disk_init(d);
    d->wall_ms = wall_ms;
}

void sim_disk_capacity(struct sim_world *w, unsigned node, uint64_t bytes) {
    w->nodes[node].disk.capacity_bytes = bytes;
}

/* ---- faults ------------------------------------------------------------------------------------ */

bool sim_names_lost(const struct sim_world *w, unsigned node) { return w->nodes[node].disk.names_lost; }

void sim_fault(struct sim_world *w, unsigned node, const struct sim_fault *spec) {
    struct fault *f = malloc(sizeof *f);
    ASSERT(f);
    f->spec = *spec;
    if (f->spec.times == 0) f->spec.times = 1;
    list_push_back(&w->nodes[node].faults, &f->link);
}

void sim_faults_clear(struct sim_world *w, unsigned node) {
    struct list *it;
    while ((it = list_pop_front(&w->nodes[node].faults))) free(LIST_ENTRY(it, struct fault, link));
}

/* ---- looking at and damaging files ------------------------------------------------------------ */

int sim_file_read(struct sim_world *w, unsigned node, const char *path, enum sim_image_kind kind, uint8_t **data,
                  size_t *len) {
    struct sim_inode *n = disk_find(&w->nodes[node].disk, path, kind == SIM_DURABLE);
    *data = NULL;
    *len = 0;
    if (!n) return -ENOENT;
    if (n->is_dir) return -EISDIR;
    const struct sim_image *m = kind == SIM_DURABLE ? &n->durable : &n->now;
    *data = malloc((size_t)m->size + 1);
    ASSERT(*data);
    *len = image_read(m, 0, *data, (size_t)m->size);
    return 0;
}

static void flip(struct sim_image *m, uint64_t offset, uint8_t mask) {
    uint8_t byte;
    if (image_read(m, offset, &byte, 1) != 1) return;
    byte ^= mask;
    image_write(m, offset, &byte, 1);
}

int sim_file_flip(struct sim_world *w, unsigned node, const char *path, uint64_t offset, uint8_t mask) {
    struct sim_inode *n = disk_find(&w->nodes[node].disk, path, false);
    if (!n || n->is_dir) return -ENOENT;
    if (offset >= n->now.size) return -ERANGE;
    flip(&n->now, offset, mask);
    flip(&n->durable, offset, mask);
    return 0;
}

int sim_file_truncate(struct sim_world *w, unsigned node, const char *path, uint64_t size) {
    struct sim_inode *n = disk_find(&w->nodes[node].disk, path, false);
    if (!n || n->is_dir) return -ENOENT;
    disk_sync(n);
    image_resize(&n->now, size);
    image_resize(&n->durable, size);
    return 0;
}

static void walk(struct sim_inode *dir, const char *prefix, sim_file_fn *fn, void *ctx) {
    for (size_t i = 0; i < dir->names.count; i++) {
        const struct sim_name *entry = &dir->names.items[i];
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", prefix, entry->name);
        if (entry->inode->is_dir) walk(entry->inode, path, fn, ctx);
        else fn(ctx, path, entry->inode->now.size);
    }
}

void sim_files(struct sim_world *w, unsigned node, sim_file_fn *fn, void *ctx) {
    walk(w->nodes[node].disk.root, "", fn, ctx);
}
