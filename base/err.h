/* err.h - how an operation can fail. Values, handled by somebody; never swallowed.
 *
 * These are Varve's own. Kafka's error codes are in proto/kafka_errors.h; the server maps one
 * to the other in one place (server/api_errors.c). */
#ifndef BASE_ERR_H
#define BASE_ERR_H
#include "base/compiler.h"

enum err {
    OK = 0,
    ERR_IO,          /* the device or file system failed; final for that directory */
    ERR_NOSPACE,     /* disk full or below the reserve; may be tried again later */
    ERR_NOMEM,       /* a memory budget or arena is exhausted */
    ERR_RANGE,       /* offset or position outside what exists */
    ERR_CORRUPT,     /* bytes contradict their checksum or format */
    ERR_TRUNCATED,   /* input ends before the value does */
    ERR_INVALID,     /* well-formed but not allowed */
    ERR_UNSUPPORTED, /* version, codec or feature that is not served */
    ERR_TOO_LARGE,   /* above a configured limit */
    ERR_FULL,        /* a bounded queue or file is full: roll, drain or wait */
    ERR_EXISTS,
    ERR_NOT_FOUND,
    ERR_BUSY,        /* locked by another owner */
    ERR_AGAIN,       /* not now; a callback or a later call will do */
    ERR_CLOSED,      /* the peer or the object is gone */
    ERR_TIMEOUT,
    ERR_DUPLICATE,   /* idempotent producer: batch already appended */
    ERR_SEQUENCE,    /* idempotent producer: out of order */
    ERR_FENCED,      /* stale epoch */
    ERR_NOT_CONTROLLER, /* another broker leads the metadata log, or none does at the moment */
    ERR_COUNT
};

/* A short lower-case phrase for people ("out of range"). Never NULL. */
const char *err_str(enum err err);

/* The nearest `enum err` for a negative errno value as returned by base/io.h. */
enum err err_from_errno(int neg_errno);
#endif
