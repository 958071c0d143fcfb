/* group_classic_impl.h - a classic group from the inside; for server/group_classic*.c only. */
#ifndef SERVER_GROUP_CLASSIC_IMPL_H
#define SERVER_GROUP_CLASSIC_IMPL_H
#include "server/group_classic.h"

struct classic_pending {
    UT_hash_handle hh;
    int64_t deadline_ms, bytes;
    int32_t id_len;
    char id[];
};

/* A static member comes back under a new id while the group is stable: what it said, until the record is durable. */
struct classic_replacement {
    void *ticket;
    struct str old_id;                       /* of the member, which lives as long */
    struct str member_id, old_leader;        /* owned */
    struct classic_protocol *protocols;      /* owned, with all they point to */
    int32_t protocol_count, session_ms, rebalance_ms;
    struct str client_id, client_host;       /* within `protocols` */
    bool can_skip_assignment;
};

/* A member from copies of all that it is made of, in the group then. NULL: memory. */
struct classic_member *classic_add(struct classic_group *g, struct str id, struct str instance_id, struct str client_id,
                                   struct str client_host);
MUST_CHECK bool classic_set_protocols(struct classic_group *g, struct classic_member *m, const struct classic_protocol *list, int32_t count);
MUST_CHECK bool classic_set_type(struct classic_group *g, struct str type);
/* Answers what it waits for with `error`. */
void classic_remove(struct classic_group *g, const struct classic_env *env, struct classic_member *m, int16_t error);
void classic_pending_remove(struct classic_group *g, struct classic_pending *p);
/* 25, 82, or 0 and the member. */
int16_t classic_find(const struct classic_group *g, struct str member_id, struct str instance_id, struct classic_member **out);
void classic_due(struct classic_group *g, int64_t deadline_ms);
void classic_alive(struct classic_group *g, const struct classic_env *env, struct classic_member *m);
int32_t classic_rebalance_ms(const struct classic_group *g); /* the longest of the members' */

void classic_answer_join(const struct classic_env *env, void *ticket, int16_t error, struct str member_id);
void classic_answer_joined(const struct classic_group *g, const struct classic_env *env, void *ticket, const struct classic_member *m,
                           bool list, bool skip);
void classic_answer_sync(const struct classic_env *env, void *ticket, int16_t error);
void classic_answer_assigned(const struct classic_group *g, const struct classic_env *env, void *ticket, const struct classic_member *m);

/* From EMPTY, COMPLETING or STABLE: begins a rebalance; in PREPARING: ends it if all are there. */
void classic_rebalance(struct classic_group *g, const struct classic_env *env, struct str group, struct group_records *out);
/* One record of the group as it will be: with the assignments that its members have now, are given, or with none. */
enum classic_assigned { CLASSIC_HAVE, CLASSIC_GIVEN, CLASSIC_NONE };
struct classic_future {
    struct str group, protocol, leader;
    int32_t generation;
    enum classic_assigned assigned;
};
void classic_put(const struct classic_group *g, const struct classic_env *env, const struct classic_future *f, struct group_records *out);
/* The replacement in the place of the member that it replaces. */
void classic_replace_in(const struct classic_group *g, const struct classic_future *f, struct k_group_metadata_value_member_metadata *members,
                        int32_t count);
#endif
