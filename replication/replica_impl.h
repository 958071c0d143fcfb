/* replica_impl.h - one step of a replica from the inside; for replication/ only. */
#ifndef REPLICATION_REPLICA_IMPL_H
#define REPLICATION_REPLICA_IMPL_H
#include "replication/mutants.h"
#include "replication/replica.h"

struct step {
    struct replica *r;
    int64_t now_ns;
    struct replica_actions *out;
};

/* Below every place of a log, so that comparisons need not ask for it. */
#define POSITION_UNKNOWN ((struct replica_position){0, -1})
static inline bool position_known(struct replica_position p) { return p.offset >= 0; }

/* ---- replica.c: actions, durability, roles ---- */
struct replica_action *step_act(struct step *s, enum replica_action_kind kind);
/* A message to `to` with what all have; the caller fills in the rest. */
struct replica_message *step_send(struct step *s, enum replica_message_kind kind, const struct replica_member *to);
void step_persist_vote(struct step *s);
void step_persist_config(struct step *s);
void step_begin_epoch(struct step *s, int32_t epoch);            /* room was reserved */
void step_append_records(struct step *s, int64_t to);            /* follower: of the message in hand */
void step_truncate(struct step *s, struct replica_position p);
void step_set_start(struct step *s, int64_t start);
void step_reset(struct step *s, struct replica_position base);
void step_note(struct step *s);                                  /* the walk's last element is durable with r->seq */
/* There are others from now on: what is durable must be known change by change. */
MUST_CHECK enum err step_not_alone(struct step *s);
void step_high_watermark(struct step *s, int64_t offset);
/* Follower (of nobody in particular): leaves what it was. */
void step_become_follower(struct step *s);
/* A higher epoch was seen. */
void step_adopt_epoch(struct step *s, int32_t epoch);
void step_adopt_config(struct step *s, const struct replica_config *c);
uint64_t replica_random(struct replica *r);

/* ---- election.c ---- */
void election_start(struct step *s, bool soon);                  /* the first deadline of a process */
void election_reset(struct step *s);                             /* a new random deadline from now */
void election_leader_heard(struct step *s);                      /* no election is wanted */
void election_tick(struct step *s);
void election_campaign(struct step *s, bool transfer);
void election_durable(struct step *s);                           /* a vote became durable */
void election_message(struct step *s, const struct replica_message *m);
bool election_alone(const struct replica *r);                    /* a group of one: no other log can exist */

/* ---- append.c: followers ---- */
void append_message(struct step *s, const struct replica_message *m);
void append_install(struct step *s, const struct replica_message *m);
void append_answer(struct step *s);                              /* acknowledges what is durable, if that was asked for */

/* ---- quiet.c: groups in which nothing happens ---- */
void quiet_round(struct step *s);                                /* leader: a heartbeat is about to be sent */
bool quiet_offered(const struct replica *r);                     /* leader: what is sent now says so */
void quiet_answered(struct step *s, struct replica_peer *p, const struct replica_message *m); /* leader: p has accepted */
void quiet_agree(struct step *s, const struct replica_message *m); /* follower: the append was taken */
void quiet_vouched(struct step *s, const struct replica_member *m, int64_t at_ns);
void quiet_end(struct step *s);                                  /* heartbeats again */
void quiet_look(struct step *s);                                 /* end of a step: whether something has changed */
void quiet_tick(struct step *s);                                 /* leader: whether somebody is not vouched for any more */
int64_t quiet_deadline(const struct replica *r);                 /* leader: when quiet_tick() may have to say something */

/* ---- leader.c ---- */
static inline int64_t heartbeat_interval(const struct replica *r) { return r->timeout_ns / 5; }
MUST_CHECK enum err leader_begin(struct step *s);
void leader_tick(struct step *s);
void leader_reply(struct step *s, const struct replica_message *m);
void leader_sent(struct step *s, uint32_t peer, uint64_t session, struct replica_position position);
void leader_pump(struct step *s);                                /* sends what peers lack */
void leader_commit(struct step *s);
MUST_CHECK enum err leader_read(struct step *s);
void leader_peer_lost(struct step *s, const struct replica_member *m);
struct replica_peer *leader_peer(struct replica *r, const struct replica_member *m);
/* Peers as the configuration and the observers say; those that stay keep their progress. */
MUST_CHECK enum err leader_peers(struct step *s);
MUST_CHECK enum err leader_observe(struct step *s, const struct replica_member *list, uint32_t count);
void leader_forget_observers(struct replica *r);

/* ---- went_back.c: members whose disk forgot what they acknowledged ---- */
void went_back_round(struct replica *r, struct replica_peer *p); /* leader: a round begins */
void went_back_look(struct step *s, struct replica_peer *p, const struct replica_message *m); /* leader: `p` has answered in our epoch */
bool went_back_known(const struct replica *r, const struct replica_member *m);

/* ---- membership.c ---- */
bool membership_is_settled(const struct replica *r);             /* configuration, and what is committed, are on a majority in this epoch */
MUST_CHECK enum err membership_change(struct step *s, const struct replica_config *to);
MUST_CHECK enum err membership_transfer(struct step *s, const struct replica_member *to);
void membership_progress(struct step *s, struct replica_peer *p); /* a transfer waits for it */
#endif
