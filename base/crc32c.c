#include "base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L leaves the inversion before and after to its caller and counts in int. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len) {
    const size_t step_max = (size_t)1 << 30;
    unsigned char *p = (unsigned char *)(uintptr_t)data; /* not written to: the prototype lacks a const */
    crc = ~crc;
    while (len > 0) {
        size_t step = len < step_max ? len : step_max;
        crc = crc32_iscsi(p, (int)step, crc);
        p += step;
        len -= step;
    }
    return ~crc;
}
