/* The vtable over the simulated disk and network. The fault model and the promises are in
 * io_sim.h, the world's clock and events in sim_world.c. */
#include "tests/sim/io_sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/crc32c.h"
#include "tests/sim/sim_world.h"

#define FIRST_FD 1000
#define TURN_NS 1000           /* what a turn of the loop costs */
#define RECV_BUFFERS 64u

STATIC_ASSERT(sizeof(struct sim_progress) <= sizeof(((struct io_op *)0)->impl));

/* ---- helpers ---------------------------------------------------------------------------------- */

static struct sim_io *self(struct io *io) { return CONTAINER_OF(io, struct sim_io, io); }
static struct sim_node *node_of(struct sim_io *s) { return &s->world->nodes[s->node_id]; }
static bool is_dead(struct sim_io *s) { return node_of(s)->down || node_of(s)->life != s->life; }

static uint64_t hash_str(const char *s) { return s ? crc32c(0, s, strlen(s)) : 0; }

static int64_t wall_of(struct sim_io *s) {
    return START_WALL_MS + (s->world->now_ns - START_NS) / 1000000 + node_of(s)->wall_jump_ms;
}

struct sim_handle *sim_handle(struct sim_node *n, int fd) {
    if (fd < FIRST_FD || (size_t)(fd - FIRST_FD) >= n->handle_count) return NULL;
    struct sim_handle *h = &n->handles[fd - FIRST_FD];
    return h->inode || h->socket ? h : NULL;
}

int sim_handle_new(struct sim_node *n, struct sim_handle handle) {
    if (n->handle_count == n->handle_cap) {
        n->handle_cap = n->handle_cap ? n->handle_cap * 2 : 64;
        n->handles = realloc(n->handles, n->handle_cap * sizeof *n->handles);
        ASSERT(n->handles);
    }
    n->handles[n->handle_count] = handle;
    return FIRST_FD + (int)n->handle_count++;
}

static struct sim_handle *file_of(struct sim_io *s, int fd) {
    struct sim_handle *h = sim_handle(node_of(s), fd);
    return h && h->inode ? h : NULL;
}

void sim_finish(struct io_op *op, int64_t result) {
    struct sim_progress *p = progress_of(op);
    op->result = result;
    p->stage = STAGE_READY;
    if (p->counted) {
        struct sim_handle *h = sim_handle(node_of(p->s), op->fd);
        ASSERT(h && h->busy > 0);
        h->busy--;
        p->counted = false;
    }
    list_push_back(&p->s->ready, &op->link);
}

/* ---- the gate that every call on the disk passes ---------------------------------------------- */

struct gate {
    int error;      /* 0: go on */
    bool dying;     /* the node goes down at this very call: do it as if in flight, then fail */
    size_t limit;   /* of bytes moved */
};

static void apply_faults(struct sim_node *n, enum sim_call call, const char *path, struct gate *g) {
    LIST_FOREACH_SAFE(it, &n->faults) {
        struct fault *f = LIST_ENTRY(it, struct fault, link);
        if (f->spec.call != call || (f->spec.path_part && (!path || !strstr(path, f->spec.path_part)))) continue;
        if (f->spec.skip > 0) {
            f->spec.skip--;
            continue;
        }
        if (f->spec.result < 0) g->error = (int)f->spec.result;
        else g->limit = MIN(g->limit, (size_t)f->spec.result);
        if (f->spec.times != UINT64_MAX && --f->spec.times == 0) {
            list_remove(&f->link);
            free(f);
        }
        return;
    }
}

static struct gate gate(struct sim_io *s, enum sim_call call, const char *path, bool changes) {
    struct sim_node *n = node_of(s);
    struct gate g = {.limit = SIZE_MAX};
    if (is_dead(s)) {
        g.error = -ESHUTDOWN;
        return g;
    }
    sim_note(s->world, 'd', (uint64_t)call, hash_str(path), n->disk_ops);
    if (changes && ++n->disk_ops == n->crash_at) {
        g.dying = true;
        g.error = -ESHUTDOWN;
        return g;
    }
    apply_faults(n, call, path, &g);
    return g;
}

static void watch(struct sim_io *s, const struct sim_request *r) {
    struct sim_node *n = node_of(s);
    if (n->watch && !is_dead(s)) n->watch(n->watch_ctx, r);
}

void sim_watch(struct sim_world *w, unsigned node, sim_watch_fn *fn, void *ctx) {
    w->nodes[node].watch = fn;
    w->nodes[node].watch_ctx = ctx;
}

static int die(struct sim_io *s) {
    sim_node_down(s->world, s->node_id);
    return -ESHUTDOWN;
}

/* ---- files ------------------------------------------------------------------------------------ */

static int open_inode(struct sim_io *s, const char *path, int flags, struct sim_inode **inode) {
    struct sim_disk *d = &node_of(s)->disk;
    *inode = disk_find(d, path, false);
    bool creates = !*inode && (flags & IO_OPEN_CREATE), cuts = *inode && (flags & IO_OPEN_TRUNC);
    struct gate g = gate(s, SIM_OPEN, path, creates || cuts);
    if (g.error && !g.dying) return g.error;
    if (*inode && (flags & IO_OPEN_CREATE) && (flags & IO_OPEN_EXCL)) return g.dying ? die(s) : -EEXIST;
    if (*inode && (*inode)->is_dir && (flags & IO_OPEN_WRITE)) return g.dying ? die(s) : -EISDIR;
    int error = 0;
    if (creates) *inode = disk_create(d, path, false, wall_of(s), &error);
    if (cuts) disk_truncate(*inode, 0, wall_of(s));
    if (g.dying) return die(s);
    if (error) return error;
    return *inode ? 0 : -ENOENT;
}

static int sim_open(struct io *io, const char *path, int flags) {
    struct sim_io *s = self(io);
    struct sim_inode *inode;
    int error = open_inode(s, path, flags, &inode);
    if (error) return error;
    inode->open_count++;
    return sim_handle_new(node_of(s), (struct sim_handle){.inode = inode, .flags = flags, .path = strdup(path)});
}

static int sim_close(struct io *io, int fd) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = sim_handle(node_of(s), fd);
    if (!h) return -EBADF;
    ASSERT(h->busy == 0);
    if (h->socket) net_close(s->world, h->socket);
    if (h->inode) {
        if (h->holds_lock) h->inode->locked = false;
        h->inode->open_count--;
    }
    free(h->path);
    *h = (struct sim_handle){0};
    return 0;
}

static bool is_misaligned(const struct sim_handle *h, const void *buf, uint64_t len, uint64_t offset) {
    return (h->flags & IO_OPEN_DIRECT) && (((uintptr_t)buf | len | offset) & (IO_BLOCK_BYTES - 1)) != 0;
}

static int64_t sim_pread(struct io *io, int fd, void *buf, size_t len, uint64_t offset) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h || !(h->flags & IO_OPEN_READ)) return -EBADF;
    if (h->inode->is_dir) return -EISDIR;
    if (is_misaligned(h, buf, len, offset)) return -EINVAL;
    struct gate g = gate(s, SIM_READ, h->path, false);
    if (g.error) return g.error;
    return (int64_t)image_read(&h->inode->now, offset, buf, MIN(len, g.limit));
}

/* The one place where bytes get into a file. A failing write may leave a prefix of whole sectors. */
static int64_t write_bytes(struct sim_io *s, struct sim_handle *h, const void *buf, size_t len, uint64_t offset, bool durable) {
    struct gate g = gate(s, SIM_WRITE, h->path, true);
    if (g.dying) {
        disk_write_lost(h->inode, offset, buf, len);
        return die(s);
    }
    if (g.error == -EIO) {
        size_t sectors = (size_t)prng_below(&s->world->disk_prng, len / SIM_SECTOR_BYTES + 1);
        disk_write(h->inode, offset, buf, sectors * SIM_SECTOR_BYTES, false, wall_of(s));
    }
    if (g.error) return g.error;
    size_t room = disk_room(&node_of(s)->disk, h->inode, offset, len);
    if (room == 0 && len > 0) return -ENOSPC;
    size_t moved = MIN(MIN(len, room), g.limit);
    disk_write(h->inode, offset, buf, moved, durable, wall_of(s));
    return (int64_t)moved;
}

static int64_t sim_pwrite(struct io *io, int fd, const void *buf, size_t len, uint64_t offset) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h || !(h->flags & IO_OPEN_WRITE)) return -EBADF;
    if (is_misaligned(h, buf, len, offset)) return -EINVAL;
    watch(s, &(struct sim_request){SIM_WRITE, h->path, offset, buf, len, h->inode->now.size});
    return write_bytes(s, h, buf, len, offset, false);
}

static int sim_sync(struct io *io, int fd) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h) return -EBADF;
    struct gate g = gate(s, SIM_SYNC, h->path, true);
    if (g.dying) return die(s);
    if (g.error) disk_sync_failed(h->inode);
    else disk_sync(h->inode);
    return g.error;
}

static int sim_sync_dir(struct io *io, const char *path) {
    struct sim_io *s = self(io);
    struct gate g = gate(s, SIM_SYNC_DIR, path, true);
    if (g.dying) return die(s);
    if (is_dead(s)) return g.error;
    struct sim_inode *dir = disk_find(&node_of(s)->disk, path, false);
    if (!dir) return -ENOENT;
    if (!dir->is_dir) return -ENOTDIR;
    disk_sync_names(&node_of(s)->disk, dir, g.error != 0);
    return g.error;
}

static int sim_sync_all(struct sim_io *s, int fd) {
    struct sim_handle *h = file_of(s, fd);
    if (!h) return -EBADF;
    struct gate g = gate(s, SIM_SYNC, h->path, true);
    if (g.dying) return die(s);
    disk_sync_all(&node_of(s)->disk, g.error != 0);
    return g.error;
}

static int sim_truncate(struct io *io, int fd, uint64_t size_bytes) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h || !(h->flags & IO_OPEN_WRITE)) return -EBADF;
    watch(s, &(struct sim_request){.call = SIM_TRUNCATE, .path = h->path, .offset = size_bytes, .size_bytes = h->inode->now.size});
    struct gate g = gate(s, SIM_TRUNCATE, h->path, true);
    if (g.error && !g.dying) return g.error;
    disk_truncate(h->inode, size_bytes, wall_of(s));
    return g.dying ? die(s) : 0;
}

static int sim_reserve(struct io *io, int fd, uint64_t offset, uint64_t len) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h || !(h->flags & IO_OPEN_WRITE)) return -EBADF;
    struct gate g = gate(s, SIM_RESERVE, h->path, true);
    if (g.dying) return die(s);
    if (g.error) return g.error;
    if (disk_room(&node_of(s)->disk, h->inode, offset, (size_t)len) < len) return -ENOSPC;
    h->inode->reserved_bytes = MAX(h->inode->reserved_bytes, ALIGN_UP(offset + len, (uint64_t)IO_BLOCK_BYTES));
    return 0;
}

static int sim_rename(struct io *io, const char *from, const char *to) {
    struct sim_io *s = self(io);
    watch(s, &(struct sim_request){.call = SIM_RENAME, .path = from});
    struct gate g = gate(s, SIM_RENAME, from, true);
    if (g.error && !g.dying) return g.error;
    int result = disk_rename(&node_of(s)->disk, from, to);
    return g.dying ? die(s) : result;
}

static int remove_name(struct sim_io *s, enum sim_call call, const char *path) {
    struct gate g = gate(s, call, path, true);
    if (g.error && !g.dying) return g.error;
    int result = disk_remove(&node_of(s)->disk, path, call == SIM_RMDIR);
    return g.dying ? die(s) : result;
}

static int sim_unlink(struct io *io, const char *path) {
    watch(self(io), &(struct sim_request){.call = SIM_UNLINK, .path = path});
    return remove_name(self(io), SIM_UNLINK, path);
}
static int sim_rmdir(struct io *io, const char *path) { return remove_name(self(io), SIM_RMDIR, path); }

static int sim_mkdir(struct io *io, const char *path) {
    struct sim_io *s = self(io);
    struct gate g = gate(s, SIM_MKDIR, path, true);
    if (g.error && !g.dying) return g.error;
    int error = 0;
    disk_create(&node_of(s)->disk, path, true, wall_of(s), &error);
    return g.dying ? die(s) : error;
}

/* The names are copied first: `fn` may change the directory. */
static int sim_list(struct io *io, const char *path, io_list_fn *fn, void *ctx) {
    struct sim_io *s = self(io);
    struct gate g = gate(s, SIM_LIST, path, false);
    if (g.error) return g.error;
    struct sim_inode *dir = disk_find(&node_of(s)->disk, path, false);
    if (!dir) return -ENOENT;
    if (!dir->is_dir) return -ENOTDIR;
    size_t count = dir->names.count;
    char **names = calloc(count + 1, sizeof *names);
    bool *is_dir = calloc(count + 1, sizeof *is_dir);
    ASSERT(names && is_dir);
    for (size_t i = 0; i < count; i++) {
        names[i] = strdup(dir->names.items[i].name);
        is_dir[i] = dir->names.items[i].inode->is_dir;
    }
    for (size_t i = 0; i < count; i++) {
        fn(ctx, names[i], is_dir[i]);
        free(names[i]);
    }
    free(names);
    free(is_dir);
    return 0;
}

static void stat_fill(const struct sim_inode *n, struct io_stat *out) {
    *out = (struct io_stat){.is_dir = n->is_dir, .size_bytes = n->now.size, .inode = n->number, .mtime_ms = n->mtime_ms};
}

static int sim_stat(struct io *io, const char *path, struct io_stat *out) {
    struct sim_io *s = self(io);
    struct gate g = gate(s, SIM_STAT, path, false);
    if (g.error) return g.error;
    struct sim_inode *n = disk_find(&node_of(s)->disk, path, false);
    if (!n) return -ENOENT;
    stat_fill(n, out);
    return 0;
}

static int sim_fstat(struct io *io, int fd, struct io_stat *out) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = file_of(s, fd);
    if (!h) return -EBADF;
    struct gate g = gate(s, SIM_STAT, h->path, false);
    if (g.error) return g.error;
    stat_fill(h->inode, out);
    return 0;
}

static int sim_space(struct io *io, const char *path, struct io_space *out) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_disk *d = &node_of(s)->disk;
    if (!disk_find(d, path, false)) return -ENOENT;
    uint64_t used = disk_used(d);
    *out = (struct io_space){.total_bytes = d->capacity_bytes, .free_bytes = d->capacity_bytes > used ? d->capacity_bytes - used : 0};
    return 0;
}

static int sim_lock(struct io *io, const char *path) {
    struct sim_io *s = self(io);
    struct gate g = gate(s, SIM_LOCK, path, false);
    if (g.error) return g.error;
    int fd = sim_open(io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE);
    if (fd < 0) return fd;
    struct sim_handle *h = sim_handle(node_of(s), fd);
    if (h->inode->locked) {
        int closed = sim_close(io, fd);
        return closed < 0 ? closed : -EWOULDBLOCK;
    }
    h->inode->locked = h->holds_lock = true;
    return fd;
}

/* ---- sockets ---------------------------------------------------------------------------------- */

static int sim_listen(struct io *io, struct sockaddr_storage *addr, int backlog) {
    struct sim_io *s = self(io);
    (void)backlog;
    return is_dead(s) ? -ESHUTDOWN : net_listen(s->world, s->node_id, addr);
}

static int sim_socket(struct io *io, int family) {
    struct sim_io *s = self(io);
    (void)family;
    return is_dead(s) ? -ESHUTDOWN : net_socket(s->world, s->node_id);
}

static int sim_shutdown(struct io *io, int fd) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = sim_handle(node_of(s), fd);
    if (!h) return -EBADF;
    return h->socket ? net_shutdown(s->world, h->socket) : -ENOTSOCK;
}

static bool sim_syncs_all(struct io *io, int fd) {
    (void)io;
    (void)fd;
    return true;
}

static void sim_detach(struct io *io, int fd) { (void)io, (void)fd; } /* handles belong to the node */

static int sim_sockname(struct io *io, int fd, struct sockaddr_storage *addr) {
    struct sim_io *s = self(io);
    if (is_dead(s)) return -ESHUTDOWN;
    struct sim_handle *h = sim_handle(node_of(s), fd);
    if (!h) return -EBADF;
    return h->socket ? net_sockname(h->socket, addr) : -ENOTSOCK;
}

static void sim_recv_release(struct io *io, void *buf) {
    struct sim_io *s = self(io);
    recv_pool_give(&s->pool, buf);
    if (!is_dead(s)) net_retry_starved(s);
}

/* ---- operations ------------------------------------------------------------------------------- */

/* All of an op's bytes in one piece, malloc'ed. */
static uint8_t *gather_bytes(const struct io_op *op, size_t *total) {
    *total = 0;
    for (uint32_t i = 0; i < op->iov_count; i++) *total += op->iov[i].iov_len;
    uint8_t *bytes = malloc(*total + 1);
    ASSERT(bytes);
    size_t at = 0;
    for (uint32_t i = 0; i < op->iov_count; i++) {
        memcpy(bytes + at, op->iov[i].iov_base, op->iov[i].iov_len);
        at += op->iov[i].iov_len;
    }
    return bytes;
}

static void watch_op(struct sim_io *s, const struct io_op *op, const struct sim_handle *h) {
    if (!node_of(s)->watch) return;
    if (op->kind == IO_UNLINK) watch(s, &(struct sim_request){.call = SIM_UNLINK, .path = op->path});
    if (op->kind != IO_WRITE || !h->inode) return;
    size_t total;
    uint8_t *bytes = gather_bytes(op, &total);
    watch(s, &(struct sim_request){SIM_WRITE, h->path, op->offset, bytes, total, h->inode->now.size});
    free(bytes);
}

static int64_t run_write(struct sim_io *s, struct io_op *op) {
    struct sim_handle *h = file_of(s, op->fd);
    if (!h || !(h->flags & IO_OPEN_WRITE)) return -EBADF;
    for (uint32_t i = 0; i < op->iov_count; i++)
        if (is_misaligned(h, op->iov[i].iov_base, op->iov[i].iov_len, op->offset)) return -EINVAL;
    size_t total;
    uint8_t *bytes = gather_bytes(op, &total);
    sim_note(s->world, 'w', op->offset, total, crc32c(0, bytes, total));
    int64_t result = write_bytes(s, h, bytes, total, op->offset, op->flags & IO_DSYNC);
    free(bytes);
    return result;
}

static void fire_op(struct sim_world *w, struct sim_event *e) {
    struct io_op *op = e->op;
    struct sim_io *s = e->s;
    (void)w;
    if (!op) return;
    int64_t result = 0;
    switch (op->kind) {
    case IO_READ: result = sim_pread(&s->io, op->fd, op->buf, op->len, op->offset); break;
    case IO_WRITE: result = run_write(s, op); break;
    case IO_SYNC: result = sim_sync(&s->io, op->fd); break;
    case IO_SYNC_ALL: result = sim_sync_all(s, op->fd); break;
    case IO_UNLINK: result = remove_name(s, SIM_UNLINK, op->path); break;
    case IO_WORK:
        op->result = 0;
        op->work(op);
        result = op->result;
        break;
    default: result = op->result; /* refused when it was submitted */
    }
    if (!is_dead(s)) sim_finish(op, result);
}

static void schedule_op(struct sim_io *s, struct io_op *op) {
    struct sim_world *w = s->world;
    int64_t delay = (int64_t)prng_between(&w->disk_prng, (uint64_t)w->tuning.disk_ns_min, (uint64_t)w->tuning.disk_ns_max);
    struct sim_event *e = sim_schedule(w, w->now_ns + delay, 0, fire_op);
    e->op = op;
    e->s = s;
    progress_of(op)->stage = STAGE_EVENT;
}

static void sim_submit(struct io *io, struct io_op *op) {
    struct sim_io *s = self(io);
    ASSERT(!op->in_flight);
    op->in_flight = true;
    op->cancelled = false;
    op->result = 0;
    list_init(&op->link);
    *progress_of(op) = (struct sim_progress){.s = s};
    if (is_dead(s)) return; /* never completes */
    bool uses_fd = op->kind != IO_UNLINK && op->kind != IO_WORK;
    struct sim_handle *h = uses_fd ? sim_handle(node_of(s), op->fd) : NULL;
    bool wants_socket = uses_fd && op->kind != IO_READ && op->kind != IO_WRITE && op->kind != IO_SYNC &&
                        op->kind != IO_SYNC_ALL;
    sim_note(s->world, 's', (uint64_t)op->kind, op->offset, op->len);
    if (uses_fd && !h) {
        sim_finish(op, -EBADF);
    } else if (wants_socket && !h->socket) {
        sim_finish(op, -ENOTSOCK);
    } else {
        if (h) h->busy++;
        progress_of(op)->counted = h != NULL;
        if (!wants_socket) watch_op(s, op, h);
        if (wants_socket) net_submit(s, op, h->socket);
        else schedule_op(s, op);
    }
}

/* A file operation cannot be called back; the others can, while they wait. */
static void sim_cancel(struct io *io, struct io_op *op) {
    struct sim_io *s = self(io);
    if (!op->in_flight || is_dead(s)) return;
    op->cancelled = true;
    switch (progress_of(op)->stage) {
    case STAGE_READY: return;
    case STAGE_SOCKET:
    case STAGE_STARVED:
        list_remove(&op->link);
        sim_finish(op, -ECANCELED);
        return;
    case STAGE_EVENT:
        if (op->kind != IO_WORK && op->kind != IO_CONNECT) return;
        for (size_t i = 0; i < s->world->event_count; i++)
            if (s->world->heap[i]->op == op) s->world->heap[i]->op = NULL;
        sim_finish(op, -ECANCELED);
    }
}

static void run_ready(struct sim_io *s) {
    struct list batch;
    list_init(&batch);
    while (!list_empty(&s->ready)) list_push_back(&batch, list_pop_front(&s->ready));
    while (!list_empty(&batch) && !is_dead(s)) {
        struct io_op *op = LIST_ENTRY(list_pop_front(&batch), struct io_op, link);
        sim_note(s->world, 'c', (uint64_t)op->kind, (uint64_t)op->result, s->node_id);
        op->in_flight = false;
        op->done(op);
    }
}

static int sim_turn(struct io *io, int64_t deadline_ns) {
    struct sim_io *s = self(io);
    struct sim_world *w = s->world;
    if (is_dead(s)) return -ESHUTDOWN;
    w->now_ns += TURN_NS;
    sim_fire_due(w);
    bool stuck = false;
    while (list_empty(&s->ready) && !is_dead(s) && !atomic_load(&s->woken) && w->now_ns < deadline_ns && !stuck) {
        stuck = w->event_count == 0 && deadline_ns == INT64_MAX;
        if (!stuck) sim_advance(w, deadline_ns);
    }
    atomic_store(&s->woken, false);
    if (!is_dead(s)) run_ready(s);
    if (is_dead(s)) return -ESHUTDOWN;
    return stuck ? -EDEADLK : 0;
}

bool sim_io_ready(const struct io *io) {
    struct sim_io *s = CONTAINER_OF((struct io *)(uintptr_t)io, struct sim_io, io);
    return !list_empty(&s->ready) || atomic_load(&s->woken);
}

static void sim_wake(struct io *io) { atomic_store(&self(io)->woken, true); }
static int64_t sim_mono_ns(struct io *io) { return self(io)->world->now_ns; }
static int64_t sim_wall_ms(struct io *io) { return wall_of(self(io)); }

static void sim_entropy(struct io *io, void *buf, size_t len) {
    struct sim_world *w = self(io)->world;
    for (size_t i = 0; i < len; i++) ((uint8_t *)buf)[i] = (uint8_t)prng_next(&w->entropy_prng);
    sim_note(w, 'r', len, w->entropy_prng.state, 0);
}

NORETURN static void sim_fatal_exit(struct io *io, int exit_code, const char *message) {
    struct sim_io *s = self(io);
    struct sim_fatal *f = &s->world->fatal;
    f->happened = true;
    f->node = s->node_id;
    f->exit_code = exit_code;
    snprintf(f->message, sizeof f->message, "%s", message);
    if (!f->jump) {
        fprintf(stderr, "simulated node %u: fatal %d: %s\n", s->node_id, exit_code, message);
        abort();
    }
    if (!is_dead(s)) sim_node_down(s->world, s->node_id);
    longjmp(*f->jump, 1);
}

static void sim_destroy(struct io *io) {
    struct sim_io *s = self(io);
    ASSERT(is_dead(s) || (list_empty(&s->ready) && list_empty(&s->starved)));
    for (size_t i = 0; i < s->world->event_count; i++) ASSERT(s->world->heap[i]->op == NULL || s->world->heap[i]->s != s);
    recv_pool_free(&s->pool);
    free(s);
}

static const struct io_vtable sim_vtable = {
    .name = "simulated",
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .sync = sim_sync,
    .sync_dir = sim_sync_dir,
    .truncate = sim_truncate,
    .reserve = sim_reserve,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .list = sim_list,
    .stat = sim_stat,
    .fstat = sim_fstat,
    .space = sim_space,
    .lock = sim_lock,
    .listen = sim_listen,
    .socket = sim_socket,
    .shutdown = sim_shutdown,
    .syncs_all = sim_syncs_all,
    .detach = sim_detach,
    .sockname = sim_sockname,
    .recv_release = sim_recv_release,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .turn = sim_turn,
    .wake = sim_wake,
    .mono_ns = sim_mono_ns,
    .wall_ms = sim_wall_ms,
    .entropy = sim_entropy,
    .fatal = sim_fatal_exit,
    .destroy = sim_destroy,
};

struct io *sim_io_create(struct sim_world *w, unsigned node) {
    ASSERT(node < SIM_NODES_MAX && !w->nodes[node].down);
    struct sim_io *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->io.v = &sim_vtable;
    s->world = w;
    s->node_id = node;
    s->life = w->nodes[node].life;
    list_init(&s->ready);
    list_init(&s->starved);
    if (recv_pool_init(&s->pool, RECV_BUFFERS)) return &s->io;
    free(s);
    return NULL;
}

/* ---- crash ------------------------------------------------------------------------------------ */

static void write_in_flight(struct sim_io *s, const struct io_op *op) {
    struct sim_handle *h = file_of(s, op->fd);
    uint64_t at = op->offset;
    for (uint32_t i = 0; h && i < op->iov_count; i++) {
        disk_write_lost(h->inode, at, op->iov[i].iov_base, op->iov[i].iov_len);
        at += op->iov[i].iov_len;
    }
}

static int by_seq(const void *a, const void *b) {
    const struct sim_event *x = *(struct sim_event *const *)a, *y = *(struct sim_event *const *)b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

void sim_node_down(struct sim_world *w, unsigned node) {
    struct sim_node *n = &w->nodes[node];
    ASSERT(!n->down);
    n->down = true;
    n->crash_at = 0;
    sim_note(w, 'x', node, n->disk_ops, n->life);
    struct sim_event **events = malloc((w->event_count + 1) * sizeof(*events));
    ASSERT(events);
    size_t count = 0;
    for (size_t i = 0; i < w->event_count; i++)
        if (w->heap[i]->op && w->heap[i]->s->node_id == node) events[count++] = w->heap[i];
    qsort(events, count, sizeof(*events), by_seq);
    for (size_t i = 0; i < count; i++) {
        if (events[i]->op->kind == IO_WRITE) write_in_flight(events[i]->s, events[i]->op);
        events[i]->op = NULL;
    }
    free(events);
    net_node_down(w, node);
}

void sim_crash(struct sim_world *w, unsigned node, enum sim_crash_policy policy) {
    struct sim_node *n = &w->nodes[node];
    if (!n->down) sim_node_down(w, node);
    for (size_t i = 0; i < n->handle_count; i++) {
        free(n->handles[i].path);
        n->handles[i] = (struct sim_handle){0};
    }
    disk_crash(&n->disk, policy, &w->crash_prng);
    sim_note(w, 'X', node, (uint64_t)policy, n->life);
    n->life++;
    n->down = false;
}
