/* crc32c.h - CRC-32C (Castagnoli), as record batches and Kafka's snapshot files use it.
 * Check value: crc32c(0, "123456789", 9) == 0xe3069283. ISA-L does the work. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H
#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `len` bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
#endif
