/* io.h - the one seam between Varve and the world.
 *
 * Everything that a reactor cannot compute goes through a `struct io`: files, sockets, clocks,
 * entropy, helper work, wake-ups and the fatal exit. Three implementations: io_uring
 * (base/io_uring.c), a blocking one with epoll and helper threads (base/io_blocking.c), and the
 * simulated world of the tests (tests/sim/io_sim.c). Code above this line cannot tell which.
 *
 * Two kinds of calls:
 *   - synchronous ones (io_open, io_pread, io_rename, ...): short metadata operations at any time;
 *     bulk reads, writes and syncs only at start, at stop and in tools, for they block the caller;
 *   - operations (struct io_op): submitted now, completed later from io_turn(), never from inside
 *     io_submit(). The op lives in its owner and must not move or be reused until `done` ran.
 *     Buffers are lent for the same time.
 *
 * Results are byte counts or 0 on success, negative errno on failure, everywhere. Short reads and
 * writes are reported as they are; nothing is retried except EINTR.
 *
 * Thread: one reactor owns one io. Only io_wake() may be called from other threads. */
#ifndef BASE_IO_H
#define BASE_IO_H
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "base/compiler.h"
#include "base/list.h"

#define IO_BLOCK_BYTES 4096u          /* alignment of O_DIRECT buffers, offsets and lengths */
#define IO_POOLED_RECV_BYTES 16384u   /* size of a buffer picked by IO_POOLED */
#define IO_IOV_MAX 512

enum io_kind {
    IO_READ,    /* fd, offset, buf, len: bytes read, 0 at end of file */
    IO_WRITE,   /* fd, offset, iov, iov_count, flags IO_DSYNC: bytes written */
    IO_SYNC,    /* fd: fdatasync */
    IO_SYNC_ALL,/* fd: all that was written to its file system so far, data and names. Reports write-back errors since `fd` was
                   opened: keep one open from the start. Only where io_syncs_all() */
    IO_UNLINK,  /* path: a large file may take long */
    IO_ACCEPT,  /* fd of a listener: the new socket (non-blocking, TCP_NODELAY); peer in `addr` */
    IO_CONNECT, /* fd from io_socket(), addr */
    IO_RECV,    /* fd, buf, len, flags IO_WAITALL | IO_POOLED: bytes, 0 at end of stream */
    IO_SEND,    /* fd, iov, iov_count: bytes sent, all of them unless an error or a close came first */
    IO_WORK     /* work(op) runs on a helper thread: may compute, must not touch reactor state */
};
enum io_op_flags {
    IO_DSYNC = 1,   /* the bytes are durable when the op completes */
    IO_WAITALL = 2, /* complete only with `len` bytes, end of stream or error */
    IO_POOLED = 4   /* the io picks the buffer when data is there: buf is set at completion (when
                       result > 0), len ignored; give it back with io_recv_release() */
};

struct io;
struct io_op {
    enum io_kind kind;
    int fd;
    uint32_t flags;
    uint64_t offset;
    void *buf;
    uint32_t len;
    const struct iovec *iov;             /* must stay valid and unchanged while in flight */
    uint32_t iov_count;
    const char *path;
    struct sockaddr_storage addr;
    void (*work)(struct io_op *op);
    int64_t result;
    void (*done)(struct io_op *op);      /* from io_turn(), on the owner's thread */
    /* for the implementation */
    bool in_flight;
    bool cancelled;
    struct list link;
    uint64_t impl[12];
};

enum io_open_flags {
    IO_OPEN_READ = 1, IO_OPEN_WRITE = 2, IO_OPEN_CREATE = 4, IO_OPEN_EXCL = 8,
    IO_OPEN_TRUNC = 16,
    IO_OPEN_DIRECT = 32  /* O_DIRECT: -EINVAL where the file system has none */
};
struct io_stat { bool is_dir; uint64_t size_bytes; uint64_t inode; int64_t mtime_ms; };
struct io_space { uint64_t total_bytes, free_bytes; };   /* free = available to this user */
typedef void io_list_fn(void *ctx, const char *name, bool is_dir);

struct io_vtable {
    const char *name;                                     /* "io_uring", "blocking", "simulated" */
    int (*open)(struct io *io, const char *path, int flags);
    int (*close)(struct io *io, int fd);                  /* files and sockets; ops on it must be done */
    int64_t (*pread)(struct io *io, int fd, void *buf, size_t len, uint64_t offset);
    int64_t (*pwrite)(struct io *io, int fd, const void *buf, size_t len, uint64_t offset);
    int (*sync)(struct io *io, int fd);                   /* fdatasync: data, size and extents */
    int (*sync_dir)(struct io *io, const char *path);     /* makes names in the folder durable */
    int (*truncate)(struct io *io, int fd, uint64_t size_bytes);
    int (*reserve)(struct io *io, int fd, uint64_t offset, uint64_t len); /* FALLOC_FL_KEEP_SIZE; -EOPNOTSUPP is harmless */
    int (*rename)(struct io *io, const char *from, const char *to);       /* replaces `to` */
    int (*unlink)(struct io *io, const char *path);
    int (*mkdir)(struct io *io, const char *path);
    int (*rmdir)(struct io *io, const char *path);
    int (*list)(struct io *io, const char *path, io_list_fn *fn, void *ctx); /* sorted by name; no . and .. */
    int (*stat)(struct io *io, const char *path, struct io_stat *out);
    int (*fstat)(struct io *io, int fd, struct io_stat *out);
    int (*space)(struct io *io, const char *path, struct io_space *out);
    bool (*syncs_all)(struct io *io, int fd);             /* whether IO_SYNC_ALL can be trusted on the file system of `fd` */
    int (*lock)(struct io *io, const char *path);         /* creates; fd that holds an exclusive lock, or -EWOULDBLOCK */

    int (*listen)(struct io *io, struct sockaddr_storage *addr, int backlog); /* binds; port 0 is filled in */
    int (*socket)(struct io *io, int family);             /* for IO_CONNECT */
    int (*shutdown)(struct io *io, int fd);               /* both ways: pending RECV/SEND end soon */
    void (*detach)(struct io *io, int fd);                /* the socket goes on with another io of the process; ops on it must be done */
    int (*sockname)(struct io *io, int fd, struct sockaddr_storage *addr);    /* own end of a connection, or a listener's */
    void (*recv_release)(struct io *io, void *pooled_buf);

    void (*submit)(struct io *io, struct io_op *op);
    void (*cancel)(struct io *io, struct io_op *op);      /* best effort; `done` still runs, perhaps with -ECANCELED */
    /* Submits what is queued, waits until something completes, io_wake() is called or
     * `deadline_ns` passes (INT64_MAX: no deadline; <= now: do not wait), runs callbacks. */
    int (*turn)(struct io *io, int64_t deadline_ns);
    void (*wake)(struct io *io);                          /* any thread */

    int64_t (*mono_ns)(struct io *io);                    /* CLOCK_BOOTTIME */
    int64_t (*wall_ms)(struct io *io);                    /* Unix time */
    void (*entropy)(struct io *io, void *buf, size_t len);
    NORETURN void (*fatal)(struct io *io, int exit_code, const char *message);
    void (*destroy)(struct io *io);                       /* no op may be in flight */
};
struct io { const struct io_vtable *v; };

struct io_config {
    uint32_t helper_threads;        /* for IO_WORK, and for file operations in the blocking one; 0 = 4 */
    uint32_t pooled_recv_buffers;   /* 0 = 64 */
    uint32_t ring_entries;          /* 0 = 1024 */
};
/* Each returns NULL and a phrase in `*why` (static or in `why_buf`) when it cannot work here. */
MUST_CHECK struct io *io_uring_create(const struct io_config *cfg, char *why, size_t why_len);
MUST_CHECK struct io *io_blocking_create(const struct io_config *cfg, char *why, size_t why_len);

/* Whether `dir` takes O_DIRECT|DSYNC writes (writes and removes a probe file). OK, ERR-like
 * negative errno otherwise, with a phrase in `why`. */
int io_probe_direct(struct io *io, const char *dir, char *why, size_t why_len);

static inline int io_open(struct io *io, const char *path, int flags) { return io->v->open(io, path, flags); }
static inline int io_close(struct io *io, int fd) { return io->v->close(io, fd); }
static inline int64_t io_pread(struct io *io, int fd, void *b, size_t n, uint64_t off) { return io->v->pread(io, fd, b, n, off); }
static inline int64_t io_pwrite(struct io *io, int fd, const void *b, size_t n, uint64_t off) { return io->v->pwrite(io, fd, b, n, off); }
static inline int io_sync(struct io *io, int fd) { return io->v->sync(io, fd); }
static inline int io_sync_dir(struct io *io, const char *path) { return io->v->sync_dir(io, path); }
static inline int io_truncate(struct io *io, int fd, uint64_t size) { return io->v->truncate(io, fd, size); }
static inline int io_reserve(struct io *io, int fd, uint64_t off, uint64_t len) { return io->v->reserve(io, fd, off, len); }
static inline int io_rename(struct io *io, const char *from, const char *to) { return io->v->rename(io, from, to); }
static inline int io_unlink(struct io *io, const char *path) { return io->v->unlink(io, path); }
static inline int io_mkdir(struct io *io, const char *path) { return io->v->mkdir(io, path); }
static inline int io_rmdir(struct io *io, const char *path) { return io->v->rmdir(io, path); }
static inline int io_list(struct io *io, const char *path, io_list_fn *fn, void *ctx) { return io->v->list(io, path, fn, ctx); }
static inline int io_stat_path(struct io *io, const char *path, struct io_stat *out) { return io->v->stat(io, path, out); }
static inline int io_fstat(struct io *io, int fd, struct io_stat *out) { return io->v->fstat(io, fd, out); }
static inline int io_space(struct io *io, const char *path, struct io_space *out) { return io->v->space(io, path, out); }
static inline bool io_syncs_all(struct io *io, int fd) { return io->v->syncs_all(io, fd); }
static inline int io_lock(struct io *io, const char *path) { return io->v->lock(io, path); }
static inline int io_listen(struct io *io, struct sockaddr_storage *addr, int backlog) { return io->v->listen(io, addr, backlog); }
static inline int io_socket(struct io *io, int family) { return io->v->socket(io, family); }
static inline int io_shutdown(struct io *io, int fd) { return io->v->shutdown(io, fd); }
static inline void io_detach(struct io *io, int fd) { io->v->detach(io, fd); }
static inline int io_sockname(struct io *io, int fd, struct sockaddr_storage *addr) { return io->v->sockname(io, fd, addr); }
static inline void io_recv_release(struct io *io, void *b) { io->v->recv_release(io, b); }
static inline void io_submit(struct io *io, struct io_op *op) { io->v->submit(io, op); }
static inline void io_cancel(struct io *io, struct io_op *op) { io->v->cancel(io, op); }
static inline int io_turn(struct io *io, int64_t deadline_ns) { return io->v->turn(io, deadline_ns); }
static inline void io_wake(struct io *io) { io->v->wake(io); }
static inline int64_t io_mono_ns(struct io *io) { return io->v->mono_ns(io); }
static inline int64_t io_wall_ms(struct io *io) { return io->v->wall_ms(io); }
static inline void io_entropy(struct io *io, void *b, size_t n) { io->v->entropy(io, b, n); }
NORETURN static inline void io_fatal(struct io *io, int code, const char *msg) { io->v->fatal(io, code, msg); }
static inline void io_destroy(struct io *io) { if (io) io->v->destroy(io); }

/* Read or write the whole file at once (state files, tests). `*data` is malloc'ed. */
int io_read_file(struct io *io, const char *path, size_t max_bytes, uint8_t **data, size_t *len);
/* tmp, fsync, rename, fsync of the folder: the file is the old or the new one, never a mixture. */
int io_replace_file(struct io *io, const char *path, const void *data, size_t len);
#endif
