/* peer_hooks.c - what comes from other brokers goes to those whom it concerns, and what they ask for is told them.
 *
 * All leaders of a reactor are reported to a new connection some at a time, in turns of their own: there may be thousands. */
#include "server/peer_hooks.h"
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/cluster.h"
#include "server/leaders.h"
#include "server/partition.h"
#include "server/peer.h"

enum { REPORTS_PER_TURN = 200 };

/* One reactor tells one broker. */
struct leaders_tell {
    struct list link;                    /* in reactor->leader_tells */
    struct reactor *reactor;
    int32_t node;
    struct leaders_walk walk;
    struct mail mail;
    bool again;                          /* asked anew meanwhile: from the beginning, when this mail arrives */
};

static void tell_some(struct mail *m) {
    struct leaders_tell *t = CONTAINER_OF(m, struct leaders_tell, mail);
    struct reactor *r = t->reactor;
    if (t->again) {
        leaders_walk_end(&t->walk);
        leaders_walk_begin(r, &t->walk);
        t->again = false;
    }
    uint64_t group;
    const struct leader_info *info = NULL;
    for (int i = 0; i < REPORTS_PER_TURN && (info = leaders_walk_next(r, &t->walk, &group)); i++)
        peer_report_leader_to(r, t->node, group, info);
    if (info || t->again) {
        mailbox_post(&r->mailbox, m);
        return;
    }
    leaders_walk_end(&t->walk);
    list_remove(&t->link);
    free(t);
}

static void leaders_wanted(struct reactor *r, int32_t node) {
    LIST_FOREACH(it, &r->leader_tells) {
        struct leaders_tell *t = LIST_ENTRY(it, struct leaders_tell, link);
        if (t->node != node) continue;
        t->again = true;
        return;
    }
    struct leaders_tell *t = calloc(1, sizeof *t);
    ASSERT(t != NULL); /* a few bytes for each connection; without them that broker would never learn */
    t->reactor = r;
    t->node = node;
    t->mail.deliver = tell_some;
    leaders_walk_begin(r, &t->walk);
    list_push_back(&r->leader_tells, &t->link);
    mailbox_post(&r->mailbox, &t->mail);
}

static void leader_told(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info) {
    if (info->leader == -1) partition_leader_resigned(r, group, node, info->epoch);
    if (info->leader == node || info->leader == -1) leaders_learn(r, group, info); /* nobody speaks for another one */
}

static void lost(struct reactor *r, int32_t node) {
    partition_peer_lost(r, node);
    partition_unsettle_all(r);
}

static void found(struct reactor *r, int32_t node) {
    (void)node;
    partition_unsettle_all(r);
}

static void refused(struct reactor *r, const char *host, uint16_t port, enum peer_refusal why, const struct uuid *theirs) {
    cluster_refused(r->broker, host, port, why, theirs);
}

static const struct peer_hooks hooks = {
    .receive = partition_receive, .lost = lost, .found = found, .leader = leader_told, .refused = refused, .leaders_wanted = leaders_wanted,
};

void peer_hooks_open(struct broker *b) {
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        list_init(&b->reactors[i].leader_tells);
        leaders_on_report(b->reactors[i].leaders, peer_report_leader);
    }
    peer_set_hooks(b, &hooks);
}

void peer_hooks_free(struct reactor *r) {
    while (r->leader_tells.next && !list_empty(&r->leader_tells)) {
        struct leaders_tell *t = LIST_ENTRY(r->leader_tells.next, struct leaders_tell, link);
        leaders_walk_end(&t->walk);
        list_remove(&t->link);
        free(t);
    }
}
