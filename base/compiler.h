/* compiler.h - the few attributes that the whole tree uses. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NORETURN __attribute__((noreturn))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* The struct that embeds `ptr` as its field `member`. */
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
/* `n` rounded to a multiple of `unit`, a power of two. */
#define ALIGN_UP(n, unit) (((n) + (unit) - 1) & ~((unit) - 1))
#define ALIGN_DOWN(n, unit) ((n) & ~((unit) - 1))
#endif
