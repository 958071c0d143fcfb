/* prng.h - reproducible numbers for the simulator: splitmix64 (Steele, Lea, Flood, OOPSLA 2014). */
#ifndef SIM_PRNG_H
#define SIM_PRNG_H
#include <stdint.h>

struct prng { uint64_t state; };

static inline uint64_t prng_next(struct prng *p) {
    uint64_t z = p->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* In [0, n); n > 0. The bias of the remainder does not matter here. */
static inline uint64_t prng_below(struct prng *p, uint64_t n) { return prng_next(p) % n; }
/* In [low, high]. */
static inline uint64_t prng_between(struct prng *p, uint64_t low, uint64_t high) {
    return high > low ? low + prng_below(p, high - low + 1) : low;
}
#endif
