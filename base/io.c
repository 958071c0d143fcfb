/* What is built upon the vtable alone, so that it works over all three implementations. */
#include "base/io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"

#define PATH_BYTES_MAX 4096

int io_read_file(struct io *io, const char *path, size_t max_bytes, uint8_t **data, size_t *len) {
    *data = NULL;
    *len = 0;
    int fd = io_open(io, path, IO_OPEN_READ);
    if (fd < 0) return fd;
    struct io_stat st;
    int result = io_fstat(io, fd, &st);
    if (result == 0 && st.is_dir) result = -EISDIR;
    if (result == 0 && st.size_bytes > max_bytes) result = -EFBIG;
    size_t size = result == 0 ? (size_t)st.size_bytes : 0, got = 0;
    uint8_t *bytes = result == 0 ? malloc(size + 1) : NULL;
    if (result == 0 && !bytes) result = -ENOMEM;
    while (result == 0 && got < size) {
        int64_t n = io_pread(io, fd, bytes + got, size - got, got);
        if (n < 0) result = (int)n;
        if (n <= 0) break;
        got += (size_t)n;
    }
    int closed = io_close(io, fd);
    if (result == 0) result = closed;
    if (result < 0) {
        free(bytes);
        return result;
    }
    bytes[got] = 0; /* for those who read text */
    *data = bytes;
    *len = got;
    return 0;
}

static int write_all(struct io *io, int fd, const uint8_t *data, size_t len) {
    size_t put = 0;
    while (put < len) {
        int64_t n = io_pwrite(io, fd, data + put, len - put, put);
        if (n < 0) return (int)n;
        if (n == 0) return -EIO;
        put += (size_t)n;
    }
    return 0;
}

/* The folder that holds `path`: "." when it names none. */
static void parent_of(const char *path, char *parent, size_t parent_len) {
    const char *slash = strrchr(path, '/');
    if (!slash) snprintf(parent, parent_len, ".");
    else if (slash == path) snprintf(parent, parent_len, "/");
    else snprintf(parent, parent_len, "%.*s", (int)(slash - path), path);
}

int io_replace_file(struct io *io, const char *path, const void *data, size_t len) {
    char temporary[PATH_BYTES_MAX], parent[PATH_BYTES_MAX];
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temporary) return -ENAMETOOLONG;
    parent_of(path, parent, sizeof parent);

    int fd = io_open(io, temporary, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC);
    if (fd < 0) return fd;
    int result = write_all(io, fd, data, len);
    if (result == 0) result = io_sync(io, fd);
    int closed = io_close(io, fd);
    if (result == 0) result = closed;
    if (result == 0) result = io_rename(io, temporary, path);
    if (result == 0) return io_sync_dir(io, parent);
    int removed = io_unlink(io, temporary);
    (void)removed; /* a leftover is overwritten the next time; the first error is the one to tell */
    return result;
}

static int probe_write(struct io *io, const char *path, const void *block, const char **step) {
    *step = "open with O_DIRECT";
    int fd = io_open(io, path, IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNC | IO_OPEN_DIRECT);
    if (fd < 0) return fd;
    *step = "O_DIRECT write";
    int64_t n = io_pwrite(io, fd, block, IO_BLOCK_BYTES, 0);
    int result = n < 0 ? (int)n : n < IO_BLOCK_BYTES ? -EIO : 0;
    if (result == 0) {
        *step = "sync";
        result = io_sync(io, fd);
    }
    int closed = io_close(io, fd);
    return result < 0 ? result : closed;
}

int io_probe_direct(struct io *io, const char *dir, char *why, size_t why_len) {
    char path[PATH_BYTES_MAX];
    int n = snprintf(path, sizeof path, "%s/.direct-io-probe", dir);
    if (n < 0 || (size_t)n >= sizeof path) return -ENAMETOOLONG;
    void *block;
    if (posix_memalign(&block, IO_BLOCK_BYTES, IO_BLOCK_BYTES) != 0) return -ENOMEM;
    memset(block, 0, IO_BLOCK_BYTES);
    const char *step = "";
    int result = probe_write(io, path, block, &step);
    free(block);
    int removed = io_unlink(io, path);
    if (result == 0 && removed < 0) {
        step = "remove the probe file";
        result = removed;
    }
    if (why_len > 0) why[0] = 0;
    if (result < 0) snprintf(why, why_len, "%s: %s", step, strerror(-result));
    return result;
}
