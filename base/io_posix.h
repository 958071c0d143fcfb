/* io_posix.h - what the two real implementations of base/io.h share: the synchronous file-system
 * calls, sockets, clocks, and the helper threads. Private to base/.
 *
 * Contract of each call: base/io.h. */
#ifndef BASE_IO_POSIX_H
#define BASE_IO_POSIX_H
#include <pthread.h>
#include <stdatomic.h>
#include "base/io.h"

int posix_open(struct io *io, const char *path, int flags);
int posix_close(struct io *io, int fd);
int64_t posix_pread(struct io *io, int fd, void *buf, size_t len, uint64_t offset);
int64_t posix_pwrite(struct io *io, int fd, const void *buf, size_t len, uint64_t offset);
int posix_sync(struct io *io, int fd);
int posix_sync_dir(struct io *io, const char *path);
int posix_truncate(struct io *io, int fd, uint64_t size_bytes);
int posix_reserve(struct io *io, int fd, uint64_t offset, uint64_t len);
int posix_rename(struct io *io, const char *from, const char *to);
int posix_unlink(struct io *io, const char *path);
int posix_mkdir(struct io *io, const char *path);
int posix_rmdir(struct io *io, const char *path);
int posix_list(struct io *io, const char *path, io_list_fn *fn, void *ctx);
int posix_stat(struct io *io, const char *path, struct io_stat *out);
int posix_fstat(struct io *io, int fd, struct io_stat *out);
int posix_space(struct io *io, const char *path, struct io_space *out);
int posix_lock(struct io *io, const char *path);
int posix_listen(struct io *io, struct sockaddr_storage *addr, int backlog);
int posix_socket(struct io *io, int family);
int posix_shutdown(struct io *io, int fd);
bool posix_syncs_all(struct io *io, int fd);
int posix_sockname(struct io *io, int fd, struct sockaddr_storage *addr);
int64_t posix_mono_ns(struct io *io);
int64_t posix_wall_ms(struct io *io);
void posix_entropy(struct io *io, void *buf, size_t len);
NORETURN void posix_fatal(struct io *io, int exit_code, const char *message);

socklen_t sockaddr_len(const struct sockaddr_storage *addr);

/* Threads that run ops which would block their reactor. Ops go in by helpers_submit(), come out
 * finished by helpers_collect(); `wake` is called (on a helper's thread) when a collect is due. */
struct helpers {
    pthread_mutex_t lock;
    pthread_cond_t some_waiting;
    struct list waiting, finished;     /* of io_op.link; under `lock` */
    bool stopping;                     /* under `lock` */
    _Atomic uint32_t finished_count;   /* a hint that saves the lock */
    pthread_t *threads;
    uint32_t thread_count, thread_limit;
    uint32_t idle, waiting_count;      /* under `lock` */
    struct io *io;
    int64_t (*run)(struct io_op *op);  /* on a helper; its value becomes op->result */
};
int helpers_init(struct helpers *h, struct io *io, uint32_t thread_limit, int64_t (*run)(struct io_op *op));
void helpers_free(struct helpers *h);  /* nothing may be waiting; joins the threads */
void helpers_submit(struct helpers *h, struct io_op *op);
bool helpers_cancel(struct helpers *h, struct io_op *op); /* true: was still waiting, now finished */
void helpers_collect(struct helpers *h, struct list *finished); /* appends */

/* What a helper does for IO_READ, IO_WRITE, IO_SYNC, IO_UNLINK and IO_WORK. */
int64_t posix_run_op(struct io_op *op);

/* The entries of a vtable that both real implementations share. */
#define POSIX_CALLS \
    .open = posix_open, .pread = posix_pread, .pwrite = posix_pwrite, .sync = posix_sync, \
    .sync_dir = posix_sync_dir, .truncate = posix_truncate, .reserve = posix_reserve, .rename = posix_rename, \
    .unlink = posix_unlink, .mkdir = posix_mkdir, .rmdir = posix_rmdir, .list = posix_list, \
    .stat = posix_stat, .fstat = posix_fstat, .space = posix_space, .syncs_all = posix_syncs_all, \
    .lock = posix_lock, .listen = posix_listen, .socket = posix_socket, .shutdown = posix_shutdown, \
    .sockname = posix_sockname

#endif
