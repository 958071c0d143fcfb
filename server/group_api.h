/* group_api.h - what the handlers of group APIs share. */
#ifndef SERVER_GROUP_API_H
#define SERVER_GROUP_API_H
#include "server/group_coordinator.h"

/* Ends without having been anywhere; `done` runs from the loop. */
void group_op_refuse(struct group_op *op, int16_t error);
/* As group_op_send(), but a group needs a name: else INVALID_GROUP_ID. */
void group_op_begin(struct group_op *op);

/* server/api_group_members.c: the classic core's answers */
void group_join_reply(void *ctx, void *ticket, const struct classic_join_reply *reply);
void group_sync_reply(void *ctx, void *ticket, const struct classic_sync_reply *reply);

/* Whoever commits offsets: of a member of a group, or (generation -1, no member) of nobody. */
struct group_committer {
    int32_t generation;                  /* or member epoch */
    struct str member_id, instance_id;
    int16_t version;                     /* of OffsetCommit */
};
/* Kafka error code; KERR_NONE: may commit now, or (`per_partition`) what consumer_group_check_partition() allows. The owner's thread. */
int16_t group_commit_check(struct group *g, const struct group_committer *who, bool *per_partition);
/* For a member that reads its offsets under an epoch (KIP-848); a null member asks for nobody. */
int16_t group_fetch_check(const struct group *g, struct str member_id, int32_t member_epoch);
/* Nothing is known of this group. */
bool group_unknown(const struct group *g);
/* It has no members, and none that are about to join. */
bool group_is_empty(const struct group *g);
/* Records say something of it. */
bool group_recorded(const struct group *g);
/* Its members exchange subscriptions in the format of Kafka's consumer. */
bool group_uses_consumer_protocol(const struct group *g);
/* Some member reads the topic. Subscriptions that do not parse may be of any topic. */
bool group_subscribes(const struct group *g, struct str topic);

/* server/api_group_history.c. What is about to be done to the group, and by whom (null: nobody in particular); `joining`: a step
 * of a member towards the end of a rebalance. */
void group_note(struct group *g, enum history_cause cause, struct str member, bool joining);
void group_note_tick(struct group *g, int64_t mono_ms); /* before its deadlines are looked at */
void group_see(struct group *g);                        /* after anything that may have changed it */

/* As ListGroups shows it; texts are static or the group's. */
struct group_summary { const char *state, *type; struct str protocol_type; bool consumer; };
struct group_summary group_summary(const struct group *g);

/* Committed offsets of a group with members may expire (of topics that they do not read). */
bool group_offsets_may_expire(const struct group *g);
/* Wall clock; -1: unknown, or it never had members. */
int64_t group_empty_since_ms(const struct group *g);

void group_put_group_tombstone(const struct group *g, struct group_records *records); /* if anything but offsets is recorded */
void group_put_offset_tombstone(const struct group *g, struct str topic, int32_t partition, struct group_records *records);
/* For some of its offsets; when there are few left, for all of them and the group itself: again until it is unknown. */
void group_put_tombstones(const struct group *g, struct group_records *records);
#endif
