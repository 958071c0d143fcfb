#include "base/err.h"

#include <errno.h>

const char *err_str(enum err err) {
    switch (err) {
    case OK: return "ok";
    case ERR_IO: return "input/output error";
    case ERR_NOSPACE: return "no space left";
    case ERR_NOMEM: return "out of memory";
    case ERR_RANGE: return "out of range";
    case ERR_CORRUPT: return "corrupt";
    case ERR_TRUNCATED: return "truncated";
    case ERR_INVALID: return "invalid";
    case ERR_UNSUPPORTED: return "unsupported";
    case ERR_TOO_LARGE: return "too large";
    case ERR_FULL: return "full";
    case ERR_EXISTS: return "already exists";
    case ERR_NOT_FOUND: return "not found";
    case ERR_BUSY: return "locked by another owner";
    case ERR_AGAIN: return "not now";
    case ERR_CLOSED: return "closed";
    case ERR_TIMEOUT: return "timed out";
    case ERR_DUPLICATE: return "duplicate";
    case ERR_SEQUENCE: return "out of sequence";
    case ERR_FENCED: return "fenced by a newer epoch";
    case ERR_NOT_CONTROLLER: return "this broker is not the controller";
    case ERR_COUNT: break;
    }
    return "unknown error";
}

enum err err_from_errno(int neg_errno) {
    if (neg_errno >= 0) return OK;
    switch (-neg_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_NOSPACE;
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE: return ERR_NOMEM;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM: return ERR_INVALID;
    case EOPNOTSUPP:
    case ENOSYS: return ERR_UNSUPPORTED;
    case EEXIST:
    case ENOTEMPTY: return ERR_EXISTS;
    case ENOENT: return ERR_NOT_FOUND;
    case EBUSY:
    case EADDRINUSE: return ERR_BUSY;
    case EAGAIN: /* also EWOULDBLOCK */
    case EINTR: return ERR_AGAIN;
    case ECANCELED:
    case ESHUTDOWN:
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ENOTCONN: return ERR_CLOSED;
    case ETIMEDOUT:
    case ETIME: return ERR_TIMEOUT;
    default: return ERR_IO; /* unknown means: trust nothing */
    }
}
