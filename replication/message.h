/* message.h - what replicas of one partition say to each other.
 *
 * Every message names the sender's and the receiver's incarnation, the sender's epoch and its configuration: a newer
 * configuration travels on everything, in both directions, or two voters could wait for each other for ever (the newest log
 * here, the newest configuration there). Record bytes ride beside a message, never in it. */
#ifndef REPLICATION_MESSAGE_H
#define REPLICATION_MESSAGE_H
#include "replication/config.h"
#include "replication/walk.h"

enum replica_message_kind {
    REPLICA_PRE_VOTE, REPLICA_PRE_VOTE_REPLY, REPLICA_VOTE, REPLICA_VOTE_REPLY,
    REPLICA_APPEND, REPLICA_APPEND_REPLY,
    REPLICA_INSTALL_START,               /* the log begins at `prev`: what is below is committed and gone */
    REPLICA_TIMEOUT_NOW                  /* campaign at once: leadership is handed over */
};

enum { REPLICA_MESSAGE_MARKERS_MAX = 8 };
struct replica_message {
    enum replica_message_kind kind;
    struct replica_member from, to;
    int32_t epoch;
    struct replica_config config;        /* replies that acknowledge: durable at the sender */
    /* votes */
    int32_t asked_epoch;                 /* the epoch that is or would be campaigned for; replies repeat it */
    struct replica_position last;        /* the candidate's last element; a granted vote repeats it */
    bool transfer;                       /* a leader wants it so: no need to have missed one */
    /* replies */
    bool ok;                             /* granted; `prev` was found */
    bool waits;                          /* of an append, not `ok`: heard, but what this epoch changed is not durable yet */
    /* append: the elements behind `prev` up to `end_offset`, markers in between; records of [prev.offset, end_offset) ride beside */
    uint64_t session;                    /* of this follower at this leader; replies repeat it */
    uint32_t round;                      /* counts the leader's rounds; replies repeat the newest that they answer */
    struct replica_position prev;        /* rejections repeat it */
    struct replica_marker markers[REPLICA_MESSAGE_MARKERS_MAX];
    uint32_t marker_count;
    int64_t end_offset;
    int64_t high_watermark;
    bool established;                    /* high_watermark is one to publish */
    bool quiet;                          /* append: nothing changes any more, this need not be repeated while we are vouched for
                                            (REPLICA_VOUCHED); an acknowledgement of such a one: agreed */
    int64_t start;                       /* log start offset; of a vote: the voter's; of an acknowledgement: durable at the sender */
    struct replica_position match;       /* ok: durable and equal to the leader's up to here; else: where to look next */
};

/* The position behind the last element of an append. */
static inline struct replica_position replica_message_end(const struct replica_message *m) {
    int32_t epoch = m->marker_count > 0 ? m->markers[m->marker_count - 1].epoch : m->prev.epoch;
    return (struct replica_position){epoch, m->end_offset};
}
/* Fewer records: whoever attaches them found less than was asked for. `end_offset` is at or above prev.offset. */
void replica_message_shorten(struct replica_message *m, int64_t end_offset);
/* Whether an append that arrived is well formed: ranges ascend, counts fit. To be asked before it is given to a replica. */
bool replica_message_is_valid(const struct replica_message *m);
#endif
