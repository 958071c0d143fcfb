/* group_api.c - see group_api.h. */
#include "server/group_api.h"
#include "server/api_errors.h"

bool group_unknown(const struct group *g) { return g->offsets.count == 0; }

int16_t group_commit_check(struct group *g, const struct group_committer *who) {
    if (who->generation < 0 && who->member_id.len == 0 && !who->instance_id.p) return KERR_NONE;
    if (!group_unknown(g)) return KERR_UNKNOWN_MEMBER_ID;
    if (who->generation < 0) return KERR_NONE; /* makes a simple group */
    return who->version >= 9 ? KERR_GROUP_ID_NOT_FOUND : KERR_ILLEGAL_GENERATION;
}

int16_t group_fetch_check(const struct group *g, struct str member_id, int32_t member_epoch) {
    (void)g;
    (void)member_id;
    (void)member_epoch;
    return KERR_NONE; /* classic groups have no member epochs */
}
