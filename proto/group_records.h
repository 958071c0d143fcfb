/* group_records.h - the records of `__consumer_offsets` that concern consumer groups.
 *
 * Key: int16 record type, then the type's Key message in its version 0. Value: int16 version, then the
 * type's Value message; a null value (tombstone) removes what the key names. The formats are Kafka's
 * (proto/kafka_stored.schema; KIP-848 for types 3 to 8 and 16), so tools that read that topic work on ours:
 *
 *    0, 1  committed offset (0 is read only)     5  member of a consumer group
 *    2     classic group                         6  epoch of the target assignment
 *    3     consumer group: its epoch             7  target assignment of a member
 *    4     topics (Kafka before 4.1, read only;  8  current assignment of a member
 *          written as a tombstone)              16  topics that a regular expression stands for
 *
 * Other types belong to other kinds of groups or to a newer Kafka: ERR_UNSUPPORTED, for a loader to pass over.
 * One thread. */
#ifndef PROTO_GROUP_RECORDS_H
#define PROTO_GROUP_RECORDS_H
#include "proto/kafka_messages.h"

/* What a key names; which fields count depends on `type` (K_..._KEY_TYPE). Strings are borrowed. */
struct group_key {
    int16_t type;
    struct str group;
    struct str topic;      /* types 0, 1 */
    int32_t partition;     /* types 0, 1 */
    struct str member_id;  /* types 5, 7, 8 */
    struct str regex;      /* type 16 */
};

/* A value; the member of the union is chosen by the type of its key. */
struct group_value {
    int16_t version;
    union {
        struct k_offset_commit_value offset_commit;                                              /* 0, 1 */
        struct k_group_metadata_value group_metadata;                                            /* 2 */
        struct k_consumer_group_metadata_value consumer_group;                                   /* 3 */
        struct k_consumer_group_partition_metadata_value partition_metadata;                     /* 4 */
        struct k_consumer_group_member_metadata_value member;                                    /* 5 */
        struct k_consumer_group_target_assignment_metadata_value target_metadata;                /* 6 */
        struct k_consumer_group_target_assignment_member_value target_member;                    /* 7 */
        struct k_consumer_group_current_member_assignment_value current_member;                  /* 8 */
        struct k_consumer_group_regular_expression_value regex;                                  /* 16 */
    };
};

/* Whether records of this type are read and written here. */
bool group_record_type_known(int16_t type);
/* Views into `key`. ERR_UNSUPPORTED: another type (`out->type` is set). ERR_TRUNCATED, ERR_CORRUPT: damaged.
 * As in Kafka, bytes behind the message are ignored here and in values. */
MUST_CHECK enum err group_key_parse(struct bytes key, struct group_key *out);
/* `value` is not null; arrays come from `arena`. Also ERR_UNSUPPORTED for a version that is not known, ERR_NOMEM. */
MUST_CHECK enum err group_value_parse(int16_t type, struct bytes value, struct arena *arena, struct group_value *out);
/* Defaults everywhere, in the version in which Kafka 4.3 writes a value of this type. */
void group_value_init(int16_t type, struct group_value *out);

/* Records in the order in which they are to be appended, as one batch: it is kept whole or not at all.
 * Bounded; the first failure sticks in `err` and nothing more is added: check once, after the last. */
struct group_records {
    struct wire_writer bytes;           /* all keys and values */
    struct group_record_span *spans;    /* owned */
    uint32_t count, cap, limit;
    enum err err;                       /* OK, ERR_TOO_LARGE (bound), ERR_NOMEM, ERR_INVALID (cannot be encoded) */
};
void group_records_init(struct group_records *records, size_t limit_bytes, uint32_t limit_count);
void group_records_free(struct group_records *records);
void group_records_reset(struct group_records *records); /* empty, no error; keeps memory and limits */

/* Appends a record; what `key` and `value` point to is copied. NULL: a tombstone. */
void group_records_put(struct group_records *records, const struct group_key *key, const struct group_value *value);
/* Record `i`, 0 <= i < count, as views that hold until the next put, reset or free. A tombstone's value is null. */
struct bytes group_records_key(const struct group_records *records, uint32_t i);
struct bytes group_records_value(const struct group_records *records, uint32_t i);
#endif
