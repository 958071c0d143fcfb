#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"

/* ---- names ------------------------------------------------------------------------------------ */

static size_t names_position(const struct sim_names *names, const char *name, bool *found) {
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(names->items[middle].name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    *found = false;
    return low;
}

static struct sim_inode *names_get(const struct sim_names *names, const char *name) {
    bool found;
    size_t at = names_position(names, name, &found);
    return found ? names->items[at].inode : NULL;
}

static void names_set(struct sim_names *names, const char *name, struct sim_inode *inode) {
    bool found;
    size_t at = names_position(names, name, &found);
    if (!found) {
        if (names->count == names->cap) {
            names->cap = names->cap ? names->cap * 2 : 8;
            names->items = realloc(names->items, names->cap * sizeof *names->items);
            ASSERT(names->items);
        }
        memmove(names->items + at + 1, names->items + at, (names->count - at) * sizeof *names->items);
        names->count++;
        names->items[at].name = strdup(name);
    }
    names->items[at].inode = inode;
}

static void names_unset(struct sim_names *names, const char *name) {
    bool found;
    size_t at = names_position(names, name, &found);
    if (!found) return;
    free(names->items[at].name);
    names->count--;
    memmove(names->items + at, names->items + at + 1, (names->count - at) * sizeof *names->items);
}

static void names_clear(struct sim_names *names) {
    for (size_t i = 0; i < names->count; i++) free(names->items[i].name);
    free(names->items);
    *names = (struct sim_names){0};
}

/* ---- inodes ----------------------------------------------------------------------------------- */

static struct sim_inode *inode_new(struct sim_disk *d, bool is_dir, int64_t now_ms) {
    struct sim_inode *n = calloc(1, sizeof *n);
    ASSERT(n);
    n->number = d->next_number++;
    n->is_dir = is_dir;
    n->mtime_ms = now_ms;
    list_init(&n->changes);
    list_push_back(&d->inodes, &n->link);
    return n;
}

static void changes_drop(struct sim_inode *n) {
    struct list *node;
    while ((node = list_pop_front(&n->changes))) free(LIST_ENTRY(node, struct sim_change, link));
}

static void inode_free(struct sim_inode *n) {
    list_remove(&n->link);
    changes_drop(n);
    image_free(&n->now);
    image_free(&n->durable);
    names_clear(&n->names);
    names_clear(&n->durable_names);
    free(n);
}

static void name_change_free(struct sim_name_change *c) {
    list_remove(&c->link);
    free(c->unset_name);
    free(c->set_name);
    free(c);
}

void disk_init(struct sim_disk *d) {
    *d = (struct sim_disk){.next_number = 1, .capacity_bytes = (uint64_t)1 << 40};
    list_init(&d->inodes);
    list_init(&d->name_changes);
    d->root = inode_new(d, true, 0);
}

void disk_free(struct sim_disk *d) {
    LIST_FOREACH_SAFE(it, &d->name_changes) name_change_free(LIST_ENTRY(it, struct sim_name_change, link));
    LIST_FOREACH_SAFE(it, &d->inodes) inode_free(LIST_ENTRY(it, struct sim_inode, link));
}

static void mark(struct sim_inode *n) {
    if (n->marked) return;
    n->marked = true;
    for (size_t i = 0; i < n->names.count; i++) mark(n->names.items[i].inode);
    for (size_t i = 0; i < n->durable_names.count; i++) mark(n->durable_names.items[i].inode);
}

void disk_sweep(struct sim_disk *d) {
    LIST_FOREACH(it, &d->inodes) LIST_ENTRY(it, struct sim_inode, link)->marked = false;
    mark(d->root);
    LIST_FOREACH(it, &d->name_changes) {
        struct sim_name_change *c = LIST_ENTRY(it, struct sim_name_change, link);
        if (c->inode) mark(c->inode);
        if (c->unset_dir) mark(c->unset_dir);
        if (c->set_dir) mark(c->set_dir);
    }
    LIST_FOREACH(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        if (n->open_count > 0) mark(n);
    }
    LIST_FOREACH_SAFE(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        if (!n->marked) inode_free(n);
    }
}

/* ---- paths ------------------------------------------------------------------------------------ */

/* The next component of `*path` into `name`; false at the end. */
static bool next_component(const char **path, char name[256]) {
    const char *p = *path;
    for (;;) {
        while (*p == '/') p++;
        size_t len = strcspn(p, "/");
        if (len == 0) return false;
        ASSERT(len < 256);
        memcpy(name, p, len);
        name[len] = 0;
        p += len;
        *path = p;
        if (strcmp(name, ".") != 0) return true;
    }
}

struct sim_inode *disk_find(struct sim_disk *d, const char *path, bool durable) {
    char name[256];
    struct sim_inode *at = d->root;
    while (at && next_component(&path, name))
        at = at->is_dir ? names_get(durable ? &at->durable_names : &at->names, name) : NULL;
    return at;
}

/* The directory that holds the last component, which goes into `name`. */
static struct sim_inode *find_parent(struct sim_disk *d, const char *path, char name[256], int *error) {
    char next[256];
    struct sim_inode *at = d->root;
    *error = 0;
    if (!next_component(&path, name)) {
        *error = -EINVAL;
        return NULL;
    }
    while (next_component(&path, next)) {
        at = names_get(&at->names, name);
        if (!at || !at->is_dir) {
            *error = at ? -ENOTDIR : -ENOENT;
            return NULL;
        }
        memcpy(name, next, sizeof next);
    }
    return at;
}

static struct sim_name_change *name_change(struct sim_disk *d) {
    struct sim_name_change *c = calloc(1, sizeof *c);
    ASSERT(c);
    list_push_back(&d->name_changes, &c->link);
    return c;
}

static void change_set(struct sim_name_change *c, struct sim_inode *dir, const char *name, struct sim_inode *inode) {
    c->set_dir = dir;
    c->set_name = strdup(name);
    c->inode = inode;
}

static void change_unset(struct sim_name_change *c, struct sim_inode *dir, const char *name) {
    c->unset_dir = dir;
    c->unset_name = strdup(name);
}

struct sim_inode *disk_create(struct sim_disk *d, const char *path, bool is_dir, int64_t now_ms, int *error) {
    char name[256];
    struct sim_inode *dir = find_parent(d, path, name, error);
    if (!dir) return NULL;
    if (names_get(&dir->names, name)) {
        *error = -EEXIST;
        return NULL;
    }
    struct sim_inode *n = inode_new(d, is_dir, now_ms);
    n->name_count = 1;
    names_set(&dir->names, name, n);
    change_set(name_change(d), dir, name, n);
    return n;
}

int disk_rename(struct sim_disk *d, const char *from, const char *to) {
    char from_name[256], to_name[256];
    int error;
    struct sim_inode *from_dir = find_parent(d, from, from_name, &error);
    if (!from_dir) return error;
    struct sim_inode *to_dir = find_parent(d, to, to_name, &error);
    if (!to_dir) return error;
    struct sim_inode *n = names_get(&from_dir->names, from_name), *old = names_get(&to_dir->names, to_name);
    if (!n) return -ENOENT;
    if (n == old) return 0;
    if (old && old->is_dir != n->is_dir) return old->is_dir ? -EISDIR : -ENOTDIR;
    if (old && old->names.count > 0) return -ENOTEMPTY;
    if (old) old->name_count--;
    names_unset(&from_dir->names, from_name);
    names_set(&to_dir->names, to_name, n);
    struct sim_name_change *c = name_change(d);
    change_unset(c, from_dir, from_name);
    change_set(c, to_dir, to_name, n);
    return 0;
}

int disk_remove(struct sim_disk *d, const char *path, bool is_dir) {
    char name[256];
    int error;
    struct sim_inode *dir = find_parent(d, path, name, &error);
    if (!dir) return error;
    struct sim_inode *n = names_get(&dir->names, name);
    if (!n) return -ENOENT;
    if (n->is_dir != is_dir) return is_dir ? -ENOTDIR : -EISDIR;
    if (n->names.count > 0) return -ENOTEMPTY;
    n->name_count--;
    names_unset(&dir->names, name);
    change_unset(name_change(d), dir, name);
    return 0;
}

static void name_change_apply(const struct sim_name_change *c) {
    if (c->unset_dir) names_unset(&c->unset_dir->durable_names, c->unset_name);
    if (c->set_dir) names_set(&c->set_dir->durable_names, c->set_name, c->inode);
}

static bool touches_marked(const struct sim_name_change *c) {
    return (c->unset_dir && c->unset_dir->marked) || (c->set_dir && c->set_dir->marked);
}

/* A rename between directories ties the two: what is pending in either goes together. */
void disk_sync_names(struct sim_disk *d, struct sim_inode *dir, bool failed) {
    LIST_FOREACH(it, &d->inodes) LIST_ENTRY(it, struct sim_inode, link)->marked = false;
    dir->marked = true;
    for (bool grown = true; grown;) {
        grown = false;
        LIST_FOREACH(it, &d->name_changes) {
            struct sim_name_change *c = LIST_ENTRY(it, struct sim_name_change, link);
            if (!touches_marked(c) || !c->unset_dir || !c->set_dir) continue;
            grown |= !c->unset_dir->marked || !c->set_dir->marked;
            c->unset_dir->marked = c->set_dir->marked = true;
        }
    }
    LIST_FOREACH_SAFE(it, &d->name_changes) {
        struct sim_name_change *c = LIST_ENTRY(it, struct sim_name_change, link);
        if (!touches_marked(c)) continue;
        if (!failed) name_change_apply(c);
        d->names_lost |= failed;
        name_change_free(c);
    }
    disk_sweep(d);
}

/* ---- space ------------------------------------------------------------------------------------ */

static uint64_t allocated(const struct sim_inode *n) {
    if (n->is_dir) return IO_BLOCK_BYTES;
    return MAX(ALIGN_UP(n->now.size, (uint64_t)IO_BLOCK_BYTES), n->reserved_bytes);
}

uint64_t disk_used(const struct sim_disk *d) {
    uint64_t used = 0;
    LIST_FOREACH(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        if (n->name_count > 0 || n->open_count > 0) used += allocated(n);
    }
    return used;
}

size_t disk_room(const struct sim_disk *d, const struct sim_inode *n, uint64_t offset, size_t len) {
    uint64_t have = allocated(n);
    if (offset + len <= have) return len;
    uint64_t used = disk_used(d), free_bytes = d->capacity_bytes > used ? d->capacity_bytes - used : 0;
    uint64_t limit = have + ALIGN_DOWN(free_bytes, (uint64_t)IO_BLOCK_BYTES);
    if (offset + len <= limit) return len;
    return offset < limit ? (size_t)(limit - offset) : 0;
}

/* ---- content ---------------------------------------------------------------------------------- */

static void write_to(struct sim_image *m, uint64_t offset, const void *bytes, size_t len) {
    image_write(m, offset, bytes, len);
    m->size = MAX(m->size, offset + len);
}

/* What no un-synced change precedes needs no list. */
static void fold(struct sim_inode *n) {
    while (!list_empty(&n->changes)) {
        struct sim_change *c = LIST_ENTRY(n->changes.next, struct sim_change, link);
        if (!c->synced) return;
        if (c->is_truncate) image_resize(&n->durable, c->offset);
        else write_to(&n->durable, c->offset, c->bytes, c->len);
        list_remove(&c->link);
        free(c);
    }
}

static struct sim_change *change_add(struct sim_inode *n, uint64_t offset, const void *bytes, size_t len) {
    struct sim_change *c = malloc(sizeof *c + len);
    ASSERT(c);
    *c = (struct sim_change){.offset = offset, .len = len};
    if (len) memcpy(c->bytes, bytes, len);
    list_push_back(&n->changes, &c->link);
    return c;
}

void disk_write(struct sim_inode *n, uint64_t offset, const void *bytes, size_t len, bool synced, int64_t now_ms) {
    n->mtime_ms = now_ms;
    if (len == 0) return;
    write_to(&n->now, offset, bytes, len);
    if (synced && list_empty(&n->changes)) write_to(&n->durable, offset, bytes, len);
    else change_add(n, offset, bytes, len)->synced = synced;
}

void disk_write_lost(struct sim_inode *n, uint64_t offset, const void *bytes, size_t len) {
    if (len) change_add(n, offset, bytes, len);
}

void disk_truncate(struct sim_inode *n, uint64_t size, int64_t now_ms) {
    n->mtime_ms = now_ms;
    if (size < n->now.size) n->reserved_bytes = 0;
    image_resize(&n->now, size);
    change_add(n, size, NULL, 0)->is_truncate = true;
}

void disk_sync(struct sim_inode *n) {
    LIST_FOREACH(it, &n->changes) LIST_ENTRY(it, struct sim_change, link)->synced = true;
    fold(n);
}

/* The pages count as clean now, but never reached the disk. */
void disk_sync_failed(struct sim_inode *n) {
    LIST_FOREACH_SAFE(it, &n->changes) {
        struct sim_change *c = LIST_ENTRY(it, struct sim_change, link);
        if (c->synced) continue;
        list_remove(&c->link);
        free(c);
    }
    fold(n);
}

void disk_sync_all(struct sim_disk *d, bool failed) {
    LIST_FOREACH(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        if (failed) disk_sync_failed(n);
        else disk_sync(n);
    }
    LIST_FOREACH_SAFE(it, &d->name_changes) {
        struct sim_name_change *c = LIST_ENTRY(it, struct sim_name_change, link);
        if (!failed) name_change_apply(c);
        d->names_lost |= failed;
        name_change_free(c);
    }
    disk_sweep(d);
}

/* ---- crash ------------------------------------------------------------------------------------ */

static bool keeps(enum sim_crash_policy policy, struct prng *prng) {
    if (policy == SIM_LOSE_NONE) return true;
    if (policy == SIM_LOSE_ALL) return false;
    return prng_below(prng, 2) == 0;
}

static void garble(struct sim_image *m, uint64_t at, uint64_t end, struct prng *prng) {
    uint8_t garbage[SIM_SECTOR_BYTES];
    for (size_t i = 0; i < sizeof garbage; i++) garbage[i] = (uint8_t)prng_next(prng);
    image_write(m, at, garbage, (size_t)(end - at));
}

/* Each sector by itself: of eight, four are kept, three lost and one garbled. */
static void tear(struct sim_image *m, const struct sim_change *c, struct prng *prng) {
    for (uint64_t at = c->offset; at < c->offset + c->len;) {
        uint64_t end = MIN(ALIGN_DOWN(at, (uint64_t)SIM_SECTOR_BYTES) + SIM_SECTOR_BYTES, c->offset + c->len);
        uint64_t fate = prng_below(prng, 8);
        if (fate < 4) image_write(m, at, c->bytes + (at - c->offset), (size_t)(end - at));
        else if (fate == 4) garble(m, at, end, prng);
        at = end;
    }
}

/* Every block that the change touches by itself: a third is as before, a third as it was to be, and of a third that was
 * being written each sector is as before, as it was to be, or garbage: also those that the change did not mean, for
 * file systems write whole blocks. */
static void tear_blocks(struct sim_image *m, const struct sim_change *c, struct prng *prng) {
    uint64_t change_end = c->offset + c->len;
    for (uint64_t block = ALIGN_DOWN(c->offset, (uint64_t)IO_BLOCK_BYTES); block < change_end; block += IO_BLOCK_BYTES) {
        uint64_t fate = prng_below(prng, 3);
        for (uint64_t at = block; fate > 0 && at < block + IO_BLOCK_BYTES; at += SIM_SECTOR_BYTES) {
            uint64_t sector = fate == 1 ? 1 : prng_below(prng, 3);
            uint64_t from = MAX(at, c->offset), to = MIN(at + SIM_SECTOR_BYTES, change_end);
            if (sector == 2) garble(m, at, at + SIM_SECTOR_BYTES, prng);
            else if (sector == 1 && from < to) image_write(m, from, c->bytes + (from - c->offset), (size_t)(to - from));
        }
    }
}

/* A cut inside a block: the file system zeroes the rest of it and writes it again. */
static void tear_at_cut(struct sim_image *m, uint64_t size, struct prng *prng) {
    if (size % IO_BLOCK_BYTES == 0 || prng_below(prng, 3) > 0) return;
    for (uint64_t at = ALIGN_DOWN(size, (uint64_t)IO_BLOCK_BYTES); at < size; at += SIM_SECTOR_BYTES)
        if (prng_below(prng, 2)) garble(m, at, MIN(at + SIM_SECTOR_BYTES, size), prng);
}

static void crash_content(struct sim_inode *n, enum sim_crash_policy policy, struct prng *prng) {
    LIST_FOREACH(it, &n->changes) {
        struct sim_change *c = LIST_ENTRY(it, struct sim_change, link);
        bool kept = c->synced || keeps(policy, prng);
        if (c->is_truncate) {
            bool torn = !c->synced && policy == SIM_TORN_BLOCK && c->offset < n->durable.size;
            if (kept) image_resize(&n->durable, c->offset);
            if (torn) tear_at_cut(&n->durable, c->offset, prng);
            continue;
        }
        uint64_t end = c->offset + c->len;
        bool size_kept = kept;
        if (!c->synced && end > n->durable.size && policy >= SIM_RANDOM) size_kept = keeps(policy, prng);
        if (size_kept) n->durable.size = MAX(n->durable.size, end);
        bool whole = c->synced || (policy != SIM_TORN && policy != SIM_TORN_BLOCK);
        if (whole && kept) image_write(&n->durable, c->offset, c->bytes, c->len);
        else if (policy == SIM_TORN) tear(&n->durable, c, prng);
        else if (policy == SIM_TORN_BLOCK) tear_blocks(&n->durable, c, prng);
        image_resize(&n->durable, n->durable.size); /* drops what lies behind the size */
    }
    changes_drop(n);
}

static void forget_current(struct sim_inode *n) {
    names_clear(&n->names);
    for (size_t i = 0; i < n->durable_names.count; i++)
        names_set(&n->names, n->durable_names.items[i].name, n->durable_names.items[i].inode);
    if (!n->is_dir) image_copy(&n->now, &n->durable);
    n->open_count = n->name_count = 0;
    n->reserved_bytes = 0;
    n->locked = false;
}

/* Only the process is gone: the kernel finishes what was in flight, and forgets nothing. */
static void process_killed(struct sim_disk *d) {
    LIST_FOREACH(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        n->open_count = 0;
        n->locked = false;
        LIST_FOREACH(change, &n->changes) {
            const struct sim_change *c = LIST_ENTRY(change, struct sim_change, link);
            if (c->is_truncate) image_resize(&n->now, c->offset);
            else write_to(&n->now, c->offset, c->bytes, c->len);
        }
    }
    disk_sweep(d);
}

void disk_crash(struct sim_disk *d, enum sim_crash_policy policy, struct prng *prng) {
    if (policy == SIM_KILLED) {
        process_killed(d);
        return;
    }
    d->names_lost = false;
    LIST_FOREACH_SAFE(it, &d->name_changes) {
        struct sim_name_change *c = LIST_ENTRY(it, struct sim_name_change, link);
        if (keeps(policy, prng)) name_change_apply(c);
        name_change_free(c);
    }
    LIST_FOREACH(it, &d->inodes) crash_content(LIST_ENTRY(it, struct sim_inode, link), policy, prng);
    LIST_FOREACH(it, &d->inodes) forget_current(LIST_ENTRY(it, struct sim_inode, link));
    LIST_FOREACH(it, &d->inodes) {
        struct sim_inode *n = LIST_ENTRY(it, struct sim_inode, link);
        for (size_t i = 0; i < n->names.count; i++) n->names.items[i].inode->name_count++;
    }
    disk_sweep(d);
}
