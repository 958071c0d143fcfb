/* dump_input.c - files through a bounded window; see dump.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/crc32c.h"
#include "tools/dump.h"

static int64_t mtime_of(const struct stat *st) { return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec; }

int input_open(struct input *in, const char *path) {
    struct stat st;
    *in = (struct input){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (in->fd < 0) return -errno;
    if (fstat(in->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int err = S_ISREG(st.st_mode) ? errno : EINVAL;
        close(in->fd);
        in->fd = -1;
        return -err;
    }
    in->size = (uint64_t)st.st_size;
    in->mtime_ns = mtime_of(&st);
    return 0;
}

void input_close(struct input *in) {
    if (in->fd >= 0) close(in->fd);
    free(in->buf);
    *in = (struct input){.fd = -1};
}

bool input_changed(const struct input *in) {
    struct stat st;
    return fstat(in->fd, &st) != 0 || (uint64_t)st.st_size != in->size || mtime_of(&st) != in->mtime_ns ||
        st.st_nlink == 0;
}

static bool reserve(struct input *in, size_t want) {
    size_t cap = MAX(want, (size_t)INPUT_WINDOW_BYTES);
    if (cap <= in->cap) return true;
    uint8_t *grown = realloc(in->buf, cap);
    if (!grown) {
        in->neg_errno = -ENOMEM;
        return false;
    }
    in->buf = grown;
    in->cap = cap;
    return true;
}

const uint8_t *input_view(struct input *in, uint64_t position, size_t want, size_t *got) {
    *got = 0;
    if (position >= in->size) return in->buf;
    want = (size_t)MIN((uint64_t)want, in->size - position);
    if (position < in->at || position + want > in->at + in->len) {
        if (!reserve(in, want)) return in->buf;
        in->at = position;
        in->len = 0;
        size_t fill = (size_t)MIN((uint64_t)in->cap, in->size - position);
        while (in->len < fill) {
            ssize_t n = pread(in->fd, in->buf + in->len, fill - in->len, (off_t)(position + in->len));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) in->neg_errno = -errno;
            if (n <= 0) break;
            in->len += (size_t)n;
        }
    }
    size_t offset = (size_t)(position - in->at);
    *got = MIN(want, in->len - offset);
    return in->buf + offset;
}

bool input_crc(struct input *in, uint64_t position, uint64_t len, uint32_t *crc) {
    *crc = 0;
    while (len > 0) {
        size_t got, want = (size_t)MIN(len, (uint64_t)INPUT_WINDOW_BYTES);
        const uint8_t *p = input_view(in, position, want, &got);
        if (got < want) return false;
        *crc = crc32c(*crc, p, got);
        position += got;
        len -= got;
    }
    return true;
}

uint8_t *read_whole(const char *path, size_t *len, int *neg_errno) {
    struct input in;
    uint8_t *data = NULL;
    *len = 0;
    *neg_errno = input_open(&in, path);
    if (*neg_errno != 0) return NULL;
    if (in.size > INPUT_WHOLE_BYTES_MAX) *neg_errno = -EFBIG;
    else if (!(data = malloc((size_t)in.size + 1))) *neg_errno = -ENOMEM;
    while (data && *len < in.size) {
        ssize_t n = pread(in.fd, data + *len, (size_t)in.size - *len, (off_t)*len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) *neg_errno = -errno;
        if (n <= 0) break;
        *len += (size_t)n;
    }
    input_close(&in);
    if (*neg_errno != 0) {
        free(data);
        return NULL;
    }
    data[*len] = '\0';
    return data;
}
