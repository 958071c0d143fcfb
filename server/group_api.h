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
/* Kafka error code; KERR_NONE: may commit now. The owner's thread. */
int16_t group_commit_check(struct group *g, const struct group_committer *who);
/* For a member that reads its offsets under an epoch (KIP-848); a null member asks for nobody. */
int16_t group_fetch_check(const struct group *g, struct str member_id, int32_t member_epoch);
/* Nothing is known of this group. */
bool group_unknown(const struct group *g);
#endif
