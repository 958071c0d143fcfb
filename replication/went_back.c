/* went_back.c - members whose disk is not the one that they had (docs/replication.md 10).
 *
 * An acknowledgement is of what is durable, and a directory is never rolled back under the same incarnation: all else rests on that. A
 * directory that was restored from a copy, or a disk that lies about its syncs, breaks it, and often it can be seen: the replica
 * lacks what it has acknowledged to this very leader.
 *
 * Messages are late and out of order, so an old answer must not be taken for that. A round counts: what `p` had acknowledged before round R
 * began it had durable before anybody could answer R. Leaders cut nothing, and who cuts for another leader is in a later epoch then, whose
 * answers are not ours; so whatever it says to R or a later round, found or not, is at or behind that position. What it holds is not
 * taken anew before it has grown, or answers that are always a round late would never be compared.
 *
 * From then on it is served, but counted for nothing: not for what is committed, not as somebody who would know of a later epoch (it may
 * have forgotten a vote), not as a voter when we campaign, and it gets no vote of ours. That ends when its directory begins anew, as another
 * incarnation. Where acknowledgements are of what is not synced (replica_start.relaxed), a power cut looks the same and is no alarm. Each
 * time, also the second and where it is no alarm, what it had acknowledged is forgotten, or its refusals would be taken for old ones. */
#include <stdlib.h>
#include "replication/replica_impl.h"

bool went_back_known(const struct replica *r, const struct replica_member *m) {
    for (uint32_t i = 0; i < r->distrusted_count; i++)
        if (replica_member_eq(&r->distrusted[i], m)) return true;
    return false;
}

/* Those that are members no more need not be remembered. Without memory it is known until we cease to lead. */
static void remember(struct replica *r, const struct replica_member *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->distrusted_count; i++)
        if (replica_config_find(&r->config, &r->distrusted[i]) >= 0) r->distrusted[n++] = r->distrusted[i];
    r->distrusted_count = n;
    if (!r->distrusted) r->distrusted = calloc(REPLICA_MEMBERS_MAX, sizeof *r->distrusted);
    if (r->distrusted && n < REPLICA_MEMBERS_MAX) r->distrusted[r->distrusted_count++] = *m;
}

void went_back_round(struct replica *r, struct replica_peer *p) {
    if (replica_position_compare(p->match, p->held) <= 0) return;
    p->held = p->match;
    p->held_round = r->round;
}

void went_back_look(struct step *s, struct replica_peer *p, const struct replica_message *m) {
    struct replica *r = s->r;
    struct replica_position held = p->held;
    if (replica_position_compare(m->match, held) >= 0) return;
    if ((int32_t)(m->round - p->held_round) < 0 && !MUTANT(r, BACK_IN_ANY_ROUND)) return;
    p->match = p->held = POSITION_UNKNOWN; /* it is sent what it lacks, from wherever its log ends now */
    if (r->relaxed || p->went_back) return;
    struct replica_action *a = step_act(s, REPLICA_WENT_BACK);
    a->position = held;
    a->peer = (uint32_t)(p - r->peers);
    p->went_back = true;
    if (!went_back_known(r, &p->member)) remember(r, &p->member);
    quiet_end(s);
}
