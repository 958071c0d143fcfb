/* xxh3.h - XXH3 for whole groups and files.
 *
 * libxxhash is built for the oldest x86-64. Where it also has the functions that choose AVX2 or AVX-512
 * at run time (a third of the time on large inputs), XXH3_* mean those; the values are the same. */
#ifndef LOG_XXH3_H
#define LOG_XXH3_H
#include <xxhash.h>
#ifdef VARVE_XXH3_DISPATCH
#include <xxh_x86dispatch.h>
#endif
#endif
