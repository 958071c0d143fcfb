/* disk_fault: a library to preload that lets a disk fail on request. The file $VARVE_DISK_FAULT, while it exists, says what:
 *   write|sync ERRNO PATH_PART     writes to (or syncs of) files whose path has PATH_PART in it fail with that errno, having done nothing
 *   slow MILLISECONDS PATH_PART    their syncs, and writes that sync, take that much longer
 * It cannot touch io_uring: for --set io.backend=blocking. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The number behind `call`, if that is what the control file says of the file; else 0. */
static int failure(const char *call, int fd) {
    const char *control = getenv("VARVE_DISK_FAULT");
    int in = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (in < 0) return 0;
    char text[256] = "", kind[16] = "", part[128] = "", link[64], path[4096];
    ssize_t n = read(in, text, sizeof text - 1);
    close(in);
    int error = 0;
    if (n <= 0 || sscanf(text, "%15s %d %127s", kind, &error, part) != 3 || strcmp(kind, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return strstr(path, part) ? error : 0;
}

static bool fails(const char *call, int fd) {
    int error = failure(call, fd);
    if (error) errno = error;
    return error != 0;
}

static void *real(const char *name) {
    void *f = dlsym(RTLD_NEXT, name);
    if (!f) abort();
    return f;
}

static void wait_if_slow(int fd) {
    int ms = failure("slow", fd);
    if (ms > 0) nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at) {
    return fails("write", fd) ? -1 : ((ssize_t(*)(int, const void *, size_t, off_t))real("pwrite"))(fd, buf, len, at);
}
ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at) { return pwrite(fd, buf, len, at); }
ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags) {
    if (flags & RWF_DSYNC) wait_if_slow(fd);
    return fails("write", fd) ? -1 : ((ssize_t(*)(int, const struct iovec *, int, off_t, int))real("pwritev2"))(fd, iov, count, at, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t at, int flags) { return pwritev2(fd, iov, count, at, flags); }
int fdatasync(int fd) {
    wait_if_slow(fd);
    return fails("sync", fd) ? -1 : ((int (*)(int))real("fdatasync"))(fd);
}
int fsync(int fd) {
    wait_if_slow(fd);
    return fails("sync", fd) ? -1 : ((int (*)(int))real("fsync"))(fd);
}
