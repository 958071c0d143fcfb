/* Files, sockets and clocks of Linux, synchronous. See io_posix.h. */
#include "base/io_posix.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "base/assert.h"
#include "base/trace.h"

/* Evaluates `call` until a signal does not interrupt it; negative errno on failure. */
#define RETRY(call) \
    ({ \
        int64_t retry_result; \
        do { \
            retry_result = (int64_t)(call); \
        } while (retry_result < 0 && errno == EINTR); \
        retry_result < 0 ? -(int64_t)errno : retry_result; \
    })

static int status(int result) { return result < 0 ? -errno : result; }

int posix_open(struct io *io, const char *path, int flags) {
    (void)io;
    int mode = (flags & IO_OPEN_READ) && (flags & IO_OPEN_WRITE) ? O_RDWR : (flags & IO_OPEN_WRITE) ? O_WRONLY : O_RDONLY;
    if (flags & IO_OPEN_CREATE) mode |= O_CREAT;
    if (flags & IO_OPEN_EXCL) mode |= O_EXCL;
    if (flags & IO_OPEN_TRUNC) mode |= O_TRUNC;
    if (flags & IO_OPEN_DIRECT) mode |= O_DIRECT;
    return (int)RETRY(open(path, mode | O_CLOEXEC, 0640));
}

/* After EINTR from close the descriptor is gone on Linux, so it is not tried again. */
int posix_close(struct io *io, int fd) {
    (void)io;
    return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

int64_t posix_pread(struct io *io, int fd, void *buf, size_t len, uint64_t offset) {
    (void)io;
    return RETRY(pread(fd, buf, len, (off_t)offset));
}

int64_t posix_pwrite(struct io *io, int fd, const void *buf, size_t len, uint64_t offset) {
    (void)io;
    return RETRY(pwrite(fd, buf, len, (off_t)offset));
}

int posix_sync(struct io *io, int fd) {
    (void)io;
    return (int)RETRY(fdatasync(fd));
}

int posix_sync_dir(struct io *io, const char *path) {
    int fd = (int)RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) return fd;
    int result = (int)RETRY(fsync(fd));
    int closed = posix_close(io, fd);
    return result < 0 ? result : closed;
}

int posix_truncate(struct io *io, int fd, uint64_t size_bytes) {
    (void)io;
    return (int)RETRY(ftruncate(fd, (off_t)size_bytes));
}

int posix_reserve(struct io *io, int fd, uint64_t offset, uint64_t len) {
    (void)io;
    return (int)RETRY(fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len));
}

int posix_rename(struct io *io, const char *from, const char *to) {
    (void)io;
    return status(rename(from, to));
}

int posix_unlink(struct io *io, const char *path) {
    (void)io;
    return status(unlink(path));
}

int posix_mkdir(struct io *io, const char *path) {
    (void)io;
    return status(mkdir(path, 0750));
}

int posix_rmdir(struct io *io, const char *path) {
    (void)io;
    return status(rmdir(path));
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int not_dots(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

int posix_list(struct io *io, const char *path, io_list_fn *fn, void *ctx) {
    (void)io;
    int dir_fd = (int)RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir_fd < 0) return dir_fd;
    struct dirent **entries;
    int count = status(scandirat(dir_fd, ".", &entries, not_dots, by_name));
    for (int i = 0; i < count; i++) {
        bool is_dir = entries[i]->d_type == DT_DIR;
        struct stat st;
        if (entries[i]->d_type == DT_UNKNOWN && fstatat(dir_fd, entries[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            is_dir = S_ISDIR(st.st_mode);
        fn(ctx, entries[i]->d_name, is_dir);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    int closed = posix_close(io, dir_fd);
    return count < 0 ? count : closed;
}

static void stat_fill(const struct stat *st, struct io_stat *out) {
    *out = (struct io_stat){
        .is_dir = S_ISDIR(st->st_mode),
        .size_bytes = (uint64_t)st->st_size,
        .inode = st->st_ino,
        .mtime_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000,
    };
}

int posix_stat(struct io *io, const char *path, struct io_stat *out) {
    (void)io;
    struct stat st;
    if (stat(path, &st) < 0) return -errno;
    stat_fill(&st, out);
    return 0;
}

int posix_fstat(struct io *io, int fd, struct io_stat *out) {
    (void)io;
    struct stat st;
    if (fstat(fd, &st) < 0) return -errno;
    stat_fill(&st, out);
    return 0;
}

int posix_space(struct io *io, const char *path, struct io_space *out) {
    (void)io;
    struct statvfs fs;
    if (statvfs(path, &fs) < 0) return -errno;
    *out = (struct io_space){.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize, .free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize};
    return 0;
}

int posix_lock(struct io *io, const char *path) {
    int fd = posix_open(io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE);
    if (fd < 0) return fd;
    int result = (int)RETRY(flock(fd, LOCK_EX | LOCK_NB));
    if (result < 0) {
        int closed = posix_close(io, fd);
        (void)closed; /* the lock's answer is the one that matters; nothing was written */
        return result;
    }
    return fd;
}

socklen_t sockaddr_len(const struct sockaddr_storage *addr) {
    return addr->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

int posix_listen(struct io *io, struct sockaddr_storage *addr, int backlog) {
    int fd = posix_socket(io, addr->ss_family);
    if (fd < 0) return fd;
    int on = 1;
    socklen_t len = sockaddr_len(addr);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)addr, len) < 0 || listen(fd, backlog) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    len = sizeof *addr;
    if (getsockname(fd, (struct sockaddr *)addr, &len) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int posix_socket(struct io *io, int family) {
    (void)io;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* A listener too: on Linux this ends its pending accepts. */
int posix_shutdown(struct io *io, int fd) {
    (void)io;
    return status(shutdown(fd, SHUT_RDWR));
}

/* An overlay does not hand on the write-back errors of the file system below it, a network file system may not sync
 * what others hold: only those whose syncfs is known to do both. */
bool posix_syncs_all(struct io *io, int fd) {
    (void)io;
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) return false;
    return fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC;
}

int posix_sockname(struct io *io, int fd, struct sockaddr_storage *addr) {
    (void)io;
    socklen_t len = sizeof *addr;
    return status(getsockname(fd, (struct sockaddr *)addr, &len));
}

int64_t posix_mono_ns(struct io *io) {
    (void)io;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t posix_wall_ms(struct io *io) {
    (void)io;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void posix_entropy(struct io *io, void *buf, size_t len) {
    (void)io;
    uint8_t *p = buf;
    while (len > 0) {
        int64_t got = RETRY(getrandom(p, len, 0));
        ASSERT(got > 0); /* Linux has had it since 3.17; without entropy nothing is safe */
        p += got;
        len -= (size_t)got;
    }
}

void posix_fatal(struct io *io, int exit_code, const char *message) {
    (void)io;
    trace_error("fatal", "%s", message);
    _exit(exit_code); /* no exit handlers: other reactors are still running */
}

/* pwritev2 so that IO_DSYNC holds for this write only, whatever the file was opened with. */
static int64_t write_vector(struct io_op *op) {
    return RETRY(pwritev2(op->fd, op->iov, (int)op->iov_count, (off_t)op->offset, op->flags & IO_DSYNC ? RWF_DSYNC : 0));
}

/* XFS leaves out the flush of the device when nothing waits in its log; its fdatasync never does. */
static int64_t sync_all(int fd) {
    int64_t rc = RETRY(syncfs(fd));
    return rc < 0 ? rc : posix_sync(NULL, fd);
}

int64_t posix_run_op(struct io_op *op) {
    switch (op->kind) {
    case IO_READ: return posix_pread(NULL, op->fd, op->buf, op->len, op->offset);
    case IO_WRITE: return write_vector(op);
    case IO_SYNC: return posix_sync(NULL, op->fd);
    case IO_SYNC_ALL: return sync_all(op->fd);
    case IO_UNLINK: return posix_unlink(NULL, op->path);
    case IO_WORK:
        op->result = 0;
        op->work(op);
        return op->result;
    default: ASSERT(!"not an operation for a helper"); return -EINVAL;
    }
}
