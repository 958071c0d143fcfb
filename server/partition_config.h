/* partition_config.h - a replica group's configuration as the bytes that the log keeps for it (log_set_replica_config()).
 *
 *   format u8 = 1, voters u8, members u8, zero u8, epoch i32, version i32, then for each member node i32, incarnation 16 bytes
 *
 * Little-endian. Members 0: the replica waits for a leader that has one. Pure. */
#ifndef SERVER_PARTITION_CONFIG_H
#define SERVER_PARTITION_CONFIG_H
#include "base/err.h"
#include "replication/config.h"

enum { PARTITION_CONFIG_BYTES_MAX = 12 + 20 * REPLICA_MEMBERS_MAX };
/* Returns how many bytes it is. */
uint32_t partition_config_encode(const struct replica_config *c, uint8_t out[PARTITION_CONFIG_BYTES_MAX]);
/* ERR_CORRUPT: not what the above writes. ERR_UNSUPPORTED: a later format. */
MUST_CHECK enum err partition_config_decode(struct replica_config *c, const uint8_t *data, uint32_t len);
#endif
