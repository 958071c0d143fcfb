/* io_sim.h - the simulated world: disks, network, clocks and entropy of several nodes in one
 * thread, in virtual time, from one seed. The same seed and the same calls give the same run; the
 * proof is sim_hash().
 *
 * Fault model of the disk (one per node; it outlives the node's crashes)
 *   - A file has a durable image and an ordered list of changes that are not yet synced: writes, in
 *     sectors of 512 bytes, and truncations. A directory has durable names and changes of names
 *     that are not yet synced: create, rename (atomic), unlink, mkdir, rmdir.
 *   - io_sync makes the changes of one file durable, data and size; io_sync_dir the names in one
 *     directory. A file whose name is not durable is unreachable after a crash, synced or not.
 *     IO_DSYNC makes the bytes of that write durable, and the size that reaches them, when the op
 *     completes; changes before it stay un-synced.
 *   - A write that is in flight at a crash counts as one that was never synced, IO_DSYNC or not.
 *   - At a crash the policy decides what happens to each un-synced change (enum
 *     sim_crash_policy). The size that a write brings is a change of its own: it may be kept while
 *     data is lost, which leaves zeros, or be lost, which cuts the data off.
 *   - A failed sync (sim_fault) forgets the un-synced changes of the file: reads still see them, no
 *     later sync makes them durable, a crash loses them. So do kernels, see fsync(2) and the
 *     PostgreSQL "fsyncgate" of 2018. A failed directory sync does the same to names.
 *   - A write that fails with EIO may have written a prefix, in whole sectors.
 *   - A full disk (sim_disk_capacity) cuts a write short, or fails it with ENOSPC.
 *   - O_DIRECT demands alignment to IO_BLOCK_BYTES of buffer, offset and length (-EINVAL).
 *   - A file descriptor's number is never used again: a stale one gives -EBADF.
 *
 * Crashes: a node is down after sim_crash_at()'s operation was reached or sim_crash() was called.
 * From then on every call on its ios fails with -ESHUTDOWN, io_turn() included, and no `done` runs:
 * ops in flight are forgotten and their memory may be freed. The old ios must still be destroyed.
 * sim_crash() then decides the fate of what was not synced; ios created afterwards see the result.
 *
 * Network: reliable byte streams with random delays, a bounded window and, on demand, short
 * receives, resets, and links that are slow or cut, one way or both. All nodes share one address space; a listener on port 0 gets a free one.
 *
 * Time: io_turn() runs what is due; when nothing is, it advances the virtual clocks to the next
 * event or the deadline. When there is neither it returns -EDEADLK: nothing can ever happen.
 *
 * Thread: one. Only io_wake() may come from others. */
#ifndef SIM_IO_SIM_H
#define SIM_IO_SIM_H
#include <setjmp.h>
#include "base/io.h"

#define SIM_SECTOR_BYTES 512u
#define SIM_NODES_MAX 16u

struct sim_world;

MUST_CHECK struct sim_world *sim_world_new(uint64_t seed);
/* All ios must have been destroyed. */
void sim_world_free(struct sim_world *w);
/* One for each reactor of the node; `node` < SIM_NODES_MAX. The node must not be down, which it is
 * between the operation of sim_crash_at() and sim_crash(). */
MUST_CHECK struct io *sim_io_create(struct sim_world *w, unsigned node);

/* A running hash of everything that happened. Equal runs have equal hashes. */
uint64_t sim_hash(const struct sim_world *w);
int64_t sim_now_ns(const struct sim_world *w);
/* Moves the time forward to the next event, at most to `limit_ns`. Returns false when no event
 * was due by then. For drivers of several nodes; a single node only needs io_turn(). */
bool sim_advance(struct sim_world *w, int64_t limit_ns);
/* INT64_MAX: nothing will happen by itself. */
int64_t sim_next_event_ns(const struct sim_world *w);
/* Whether a turn of `io` would find something to do: completions, or a wake-up. A node whose ios are not turned is paused. */
bool sim_io_ready(const struct io *io);
/* Moves one node's wall clock. */
void sim_wall_jump(struct sim_world *w, unsigned node, int64_t ms);

/* May be changed at any time; sim_world_new() sets the defaults. */
struct sim_tuning {
    int64_t disk_ns_min, disk_ns_max;   /* 20 us, 2 ms: for each operation by io_submit() */
    int64_t net_ns_min, net_ns_max;     /* 10 us, 500 us: one way */
    bool short_receives;                /* false: a receive gets all there is; true: any part */
};
struct sim_tuning *sim_tuning(struct sim_world *w);

/* ---- crashes ---------------------------------------------------------------------------------- */

enum sim_crash_policy {
    SIM_LOSE_NONE, /* all is kept, and durable */
    SIM_LOSE_ALL,  /* only what was synced is kept */
    SIM_RANDOM,    /* each change is kept or lost: any subset, so any order of writing back */
    SIM_TORN,      /* as SIM_RANDOM, and each sector of a write is kept, lost or garbled */
    SIM_TORN_BLOCK, /* as SIM_RANDOM, and each block of IO_BLOCK_BYTES that a write touches, or a truncation cuts, is kept, lost
                      or torn: then its other sectors, durable ones too, may be garbage */
    SIM_KILLED     /* the process dies, the machine stays up: all is readable, writes in flight included, and what
                      was not synced still is not: the next crash may lose it */
};
void sim_crash(struct sim_world *w, unsigned node, enum sim_crash_policy policy);
/* The node goes down at its disk operation number `op`, counted by sim_disk_ops() from 1: that one
 * is in flight at the crash. 0: never. The call stays armed until it strikes. */
void sim_crash_at(struct sim_world *w, unsigned node, uint64_t op);
bool sim_crashed(const struct sim_world *w, unsigned node);
/* Operations so far that change or sync something on the node's disk: the crash points. An
 * operation by io_submit() counts when it would complete. */
uint64_t sim_disk_ops(const struct sim_world *w, unsigned node);

/* What io_fatal() said. When `jump` is set the node goes down and io_fatal() jumps there (value 1);
 * otherwise the process aborts. */
struct sim_fatal { bool happened; unsigned node; int exit_code; char message[256]; jmp_buf *jump; };
struct sim_fatal *sim_fatal(struct sim_world *w);

/* ---- faults ----------------------------------------------------------------------------------- */

enum sim_call {
    SIM_OPEN, SIM_READ, SIM_WRITE, SIM_SYNC, SIM_SYNC_DIR, SIM_TRUNCATE, SIM_RESERVE, SIM_RENAME,
    SIM_UNLINK, SIM_MKDIR, SIM_RMDIR, SIM_LIST, SIM_STAT, SIM_LOCK, SIM_CALLS
};
struct sim_fault {
    enum sim_call call;
    const char *path_part;  /* only paths that contain it; NULL: all. Borrowed until the fault ends */
    uint64_t skip;          /* so many matching calls succeed first */
    uint64_t times;         /* then so many fail; 0 is 1; UINT64_MAX: for ever */
    int64_t result;         /* negative errno; >= 0: a read or write moves at most so many bytes */
};
void sim_fault(struct sim_world *w, unsigned node, const struct sim_fault *fault);
void sim_faults_clear(struct sim_world *w, unsigned node);
/* A failed sync, of a folder or of everything, has forgotten changes of names: they are seen until the machine goes down, no later
 * sync makes them durable, and whoever starts meanwhile cannot tell. File systems do not go on in such a state (their own journal has
 * failed), so what comes next must not be SIM_KILLED. */
bool sim_names_lost(const struct sim_world *w, unsigned node);
/* Another disk, empty, for a node none of whose ios is in use: after sim_crash(), before the next sim_io_create(). */
void sim_disk_replace(struct sim_world *w, unsigned node);
void sim_disk_capacity(struct sim_world *w, unsigned node, uint64_t bytes); /* default: 1 TiB */

/* What is asked of the disk, seen when it is asked for, before anything of it happens. */
struct sim_request {
    enum sim_call call;     /* SIM_WRITE, SIM_TRUNCATE, SIM_UNLINK, SIM_RENAME */
    const char *path;
    uint64_t offset;        /* TRUNCATE: the new size */
    const uint8_t *bytes;   /* WRITE */
    size_t len;
    uint64_t size_bytes;    /* of the file now */
};
typedef void sim_watch_fn(void *ctx, const struct sim_request *r);
void sim_watch(struct sim_world *w, unsigned node, sim_watch_fn *fn, void *ctx); /* NULL: no more */

/* ---- looking at and damaging files ------------------------------------------------------------ */

enum sim_image_kind { SIM_DURABLE, SIM_CURRENT };
/* malloc'ed copy. -ENOENT when that image has no such file: a SIM_DURABLE one is found by durable
 * names only. */
int sim_file_read(struct sim_world *w, unsigned node, const char *path, enum sim_image_kind kind, uint8_t **data,
                  size_t *len);
/* Both images, at once durable. */
int sim_file_flip(struct sim_world *w, unsigned node, const char *path, uint64_t offset, uint8_t mask);
int sim_file_truncate(struct sim_world *w, unsigned node, const char *path, uint64_t size);
/* Every file of the current tree, by full path, sorted within its directory. */
typedef void sim_file_fn(void *ctx, const char *path, uint64_t size_bytes);
void sim_files(struct sim_world *w, unsigned node, sim_file_fn *fn, void *ctx);

/* ---- network ---------------------------------------------------------------------------------- */

/* Both ends get -ECONNRESET, what was under way is lost. */
void sim_reset_connection(struct sim_world *w, unsigned node, int fd);
/* What goes from one node to another stalls, new connections in either direction too, until the link is whole again:
 * then it goes on in order, unless the connections were reset meanwhile. The news of a crash stalls as bytes do. */
void sim_link_cut(struct sim_world *w, unsigned from, unsigned to, bool cut);
bool sim_link_is_cut(const struct sim_world *w, unsigned from, unsigned to);
/* On top of the delays of sim_tuning. */
void sim_link_delay(struct sim_world *w, unsigned from, unsigned to, int64_t delay_ns);
/* All connections between two nodes break at both ends at once, over cut links too (each side has given up). */
void sim_link_reset(struct sim_world *w, unsigned a, unsigned b);
#endif
