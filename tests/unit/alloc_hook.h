/* alloc_hook.h - memory that ends on demand, for the log library of the mutants: tests/CMakeLists.txt includes this file
 * before each of its sources. What base and the C library allocate by themselves does not fail. */
#ifndef UNIT_ALLOC_HOOK_H
#define UNIT_ALLOC_HOOK_H
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
struct buf;
/* From the allocation number `from` on (from 1, counted since it was set), `times` of them fail. 0: none. */
struct alloc_hook { uint64_t count, from, times, failed; bool paused; };
extern struct alloc_hook alloc_hook;
void *hook_malloc(size_t n);
void *hook_calloc(size_t n, size_t size);
void *hook_realloc(void *p, size_t n);
void *hook_aligned_alloc(size_t align, size_t n);
char *hook_strdup(const char *s);
struct buf *hook_buf_new(uint32_t cap, uint32_t align);
#ifdef ALLOC_HOOKED
#undef strdup
#define malloc hook_malloc
#define calloc hook_calloc
#define realloc hook_realloc
#define aligned_alloc hook_aligned_alloc
#define strdup hook_strdup
#define buf_new hook_buf_new
#endif
#endif
