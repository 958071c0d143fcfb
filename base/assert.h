/* assert.h - invariants, checked in every build, production included.
 *
 * A broken invariant stops the process: what is on disk is sound (JOURNAL order), what is in
 * memory no longer is. Operating errors (I/O, bad input, full disk) are values of `enum err`,
 * never assertions. */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H
#include "base/compiler.h"

NORETURN void assert_failed(const char *expr, const char *file, int line, const char *func);

#define ASSERT(cond) \
    (LIKELY(cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__, __func__))
#define STATIC_ASSERT(cond) _Static_assert(cond, #cond)
#endif
