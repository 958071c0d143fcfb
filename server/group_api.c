/* group_api.c - see group_api.h. */
#include "server/group_api.h"
#include "server/api_errors.h"

bool group_unknown(const struct group *g) { return g->offsets.count == 0 && !g->classic; }

void group_op_begin(struct group_op *op) {
    if (op->group.len > 0) group_op_send(op);
    else group_op_refuse(op, KERR_INVALID_GROUP_ID);
}

int16_t group_commit_check(struct group *g, const struct group_committer *who) {
    if (g->classic) {
        struct classic_env env = group_classic_env(g);
        return classic_commit_check(g->classic, &env, who->generation, who->member_id, who->instance_id);
    }
    if (who->generation < 0) return KERR_NONE; /* makes a simple group */
    if (!group_unknown(g)) return KERR_UNKNOWN_MEMBER_ID;
    return who->version >= 9 ? KERR_GROUP_ID_NOT_FOUND : KERR_ILLEGAL_GENERATION;
}

int16_t group_fetch_check(const struct group *g, struct str member_id, int32_t member_epoch) {
    (void)g;
    (void)member_id;
    (void)member_epoch;
    return KERR_NONE; /* classic groups have no member epochs */
}
