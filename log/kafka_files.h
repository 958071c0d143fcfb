/* kafka_files.h - Kafka's small text files: partition.metadata and the offset checkpoints. Pure.
 *
 *   partition.metadata          "version: 0\ntopic_id: <uuid>"
 *   recovery-point-offset-checkpoint, replication-offset-checkpoint, log-start-offset-checkpoint:
 *                               "0\n<n>\n" then n lines "<topic> <partition> <offset>\n"
 * leader-epoch-checkpoint is in epochs.h, .snapshot in producers.h. */
#ifndef LOG_KAFKA_FILES_H
#define LOG_KAFKA_FILES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/bytes.h"
#include "base/err.h"

#define PARTITION_METADATA_FILE "partition.metadata"
#define EPOCH_CHECKPOINT_FILE "leader-epoch-checkpoint"
#define RECOVERY_POINT_FILE "recovery-point-offset-checkpoint"
#define REPLICATION_OFFSET_FILE "replication-offset-checkpoint"
#define LOG_START_OFFSET_FILE "log-start-offset-checkpoint"
#define CLEAN_SHUTDOWN_FILE ".kafka_cleanshutdown"

#define UUID_TEXT_BYTES 23   /* 22 characters of base64url without padding, NUL */
void uuid_to_text(const struct uuid *u, char out[UUID_TEXT_BYTES]);
bool uuid_from_text(struct str text, struct uuid *out);

/* malloc'ed, NUL-terminated; NULL: memory. */
char *partition_metadata_to_text(const struct uuid *topic_id);
MUST_CHECK enum err partition_metadata_from_text(const char *text, size_t len, struct uuid *topic_id);   /* ERR_CORRUPT */

struct offset_entry { struct str topic; int32_t partition; int64_t offset; };
struct offset_checkpoint { struct offset_entry *entries; uint32_t count; };
/* malloc'ed, NUL-terminated; NULL: memory. */
char *offset_checkpoint_to_text(const struct offset_entry *entries, uint32_t count);
/* `out->entries` is malloc'ed (offset_checkpoint_free); topics are views into `text`. ERR_CORRUPT, ERR_NOMEM. */
MUST_CHECK enum err offset_checkpoint_from_text(struct offset_checkpoint *out, const char *text, size_t len);
void offset_checkpoint_free(struct offset_checkpoint *c);
#endif
