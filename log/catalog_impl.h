/* catalog_impl.h - what catalog.c and catalog_format.c share. */
#ifndef LOG_CATALOG_IMPL_H
#define LOG_CATALOG_IMPL_H
#include "log/catalog.h"

uint32_t catalog_record_bytes(uint32_t len);
/* Writes a record of catalog_record_bytes(len) bytes; returns how many. */
uint32_t catalog_record_put(uint8_t *out, enum catalog_record_type type, uint64_t plid, const uint8_t *data, uint32_t len);
/* A footer record over the `states_len` bytes of `count` records before it, for position `at` of the file, which is
 * 8-aligned; it ends at a block boundary. Malloc'ed; NULL: memory. */
uint8_t *catalog_footer_build(const struct catalog_footer *f, const uint8_t *states, size_t states_len, uint32_t count,
                              uint64_t previous, uint64_t at, uint32_t *bytes);
#endif
