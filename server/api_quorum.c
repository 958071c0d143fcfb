/* api_quorum.c - who votes for the metadata log, changed by an administrator: AddRaftVoter, RemoveRaftVoter (KIP-853); and
 * UnregisterBroker (KIP-500).
 *
 * Metadata says who is to vote; the leader of the log follows in single steps (server/partition_reconcile.c). A request that asks for
 * it waits until it has come to pass, for its timeout at most: what was asked for then still holds. */
#include <stdio.h>
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller_impl.h"
#include "server/peer.h"

#define LOOK_NS 20000000
enum { TIMEOUT_MS_DEFAULT = 30000, TIMEOUT_MS_MAX = 600000 };

struct voter_state {
    struct request *rq;
    struct controller_change change;
    struct partition_facts ask;
    struct partition_fact fact;
    uint64_t plid;
    struct timer timer;
    int64_t deadline_ns;
    bool add, wait;
    int32_t node;
    struct uuid directory;
    struct str cluster;
    int16_t error;
    struct str why;
};

static void voter_refuse(struct voter_state *s, int16_t error, const char *why) {
    s->error = error;
    s->why = request_printf(s->rq, "Broker %d %s", s->node, why);
}

static void voter_reply(struct voter_state *s) {
    if (s->add) {
        struct k_add_raft_voter_response out;
        k_add_raft_voter_response_init(&out);
        out.error_code = s->error;
        out.error_message = s->error ? s->why : STR_NULL;
        k_add_raft_voter_response_encode(&out, request_reply_begin(s->rq), request_version(s->rq));
    } else {
        struct k_remove_raft_voter_response out;
        k_remove_raft_voter_response_init(&out);
        out.error_code = s->error;
        out.error_message = s->error ? s->why : STR_NULL;
        k_remove_raft_voter_response_encode(&out, request_reply_begin(s->rq), request_version(s->rq));
    }
    request_reply(s->rq);
}

/* ---- the change (reactor 0) ---------------------------------------------------------------------------- */

/* As metadata wants it, or as it was founded. */
static uint32_t voters_wanted(struct controller *c, const struct image *im, int32_t *out) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < im->quorum_voter_count; i++) out[n++] = im->quorum_voters[i];
    if (n > 0) return n;
    for (uint32_t i = 0; i < c->role.config.voters; i++) {
        uint32_t at = n++;
        for (; at > 0 && out[at - 1] > c->role.config.members[i].node; at--) out[at] = out[at - 1];
        out[at] = c->role.config.members[i].node;
    }
    return n;
}

static uint32_t find_voter(const int32_t *nodes, uint32_t count, int32_t node) {
    uint32_t i = 0;
    while (i < count && nodes[i] != node) i++;
    return i;
}

static bool may_add(struct voter_state *s, const struct image *im, uint32_t count, bool votes) {
    static const struct uuid any;
    const struct image_node *n = image_node(im, s->node);
    if (!n) voter_refuse(s, KERR_BROKER_ID_NOT_REGISTERED, "is not registered: start it with controller.quorum.bootstrap.servers first");
    else if (!uuid_eq(&s->directory, &any) && !uuid_eq(&s->directory, &n->incarnation))
        voter_refuse(s, KERR_INVALID_VOTER_KEY, "has another directory id");
    else if (votes) voter_refuse(s, KERR_DUPLICATE_VOTER, "is a voter already");
    else if (count >= IMAGE_REPLICAS_MAX) voter_refuse(s, KERR_INVALID_REQUEST, "would be one voter too many");
    return !s->error;
}

/* A voter is its node and its directory (KIP-853); no directory means whichever it has. One that lost its disk may be named by the directory
 * that votes or by the one that it has now. */
static bool has_directory(const struct voter_state *s, const struct controller *c, const struct image *im) {
    static const struct uuid any;
    const struct image_node *n = image_node(im, s->node);
    if (uuid_eq(&s->directory, &any) || (n && uuid_eq(&s->directory, &n->incarnation))) return true;
    for (uint32_t i = 0; i < c->role.config.voters; i++)
        if (c->role.config.members[i].node == s->node && uuid_eq(&s->directory, &c->role.config.members[i].incarnation)) return true;
    return false;
}

static bool may_remove(struct voter_state *s, const struct controller *c, const struct image *im, uint32_t count, bool votes) {
    if (!votes) voter_refuse(s, KERR_VOTER_NOT_FOUND, "is not a voter");
    else if (!has_directory(s, c, im)) voter_refuse(s, KERR_VOTER_NOT_FOUND, "votes with another directory id");
    else if (count == 1) voter_refuse(s, KERR_INVALID_REQUEST, "is the only voter");
    return !s->error;
}

static void voter_make(struct controller_change *ch, struct controller_edit *e) {
    struct voter_state *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    int32_t nodes[IMAGE_REPLICAS_MAX + 1];
    struct controller *c = controller_edit_broker(e)->controller;
    uint32_t count = voters_wanted(c, im, nodes);
    uint32_t at = find_voter(nodes, count, s->node);
    bool votes = at < count;
    s->error = 0;
    if (s->add ? !may_add(s, im, count, votes) : !may_remove(s, c, im, count, votes)) return;
    if (s->add) {
        for (at = count++; at > 0 && nodes[at - 1] > s->node; at--) nodes[at] = nodes[at - 1];
        nodes[at] = s->node;
    } else {
        for (count--; at < count; at++) nodes[at] = nodes[at + 1];
    }
    (void)controller_set_quorum(e, nodes, count); /* `e` remembers */
}

/* ---- until it has come to pass -------------------------------------------------------------------------- */

static bool votes_now(const struct leader_info *l, int32_t node) {
    for (uint8_t i = 0; i < l->voters; i++)
        if (l->members[i] == node) return true;
    return false;
}

static void voter_seen(struct partition_op *op) {
    struct voter_state *s = CONTAINER_OF(CONTAINER_OF(op, struct partition_facts, op), struct voter_state, ask);
    struct reactor *r = s->rq->reactor;
    const struct leader_info *l = &s->fact.leader;
    if (!op->error && l->leader >= 0 && l->count > 0 && votes_now(l, s->node) == s->add) {
        voter_reply(s);
    } else if (r->now_ns >= s->deadline_ns || atomic_load(&r->broker->stopping)) {
        voter_refuse(s, KERR_REQUEST_TIMED_OUT, s->add ? "is to be a voter; it has not caught up yet" : "is to be no voter; it still is one");
        voter_reply(s);
    } else {
        timer_set(&r->timers, &s->timer, r->now_ns + LOOK_NS);
    }
}

static void voter_look(struct timer *t) {
    struct voter_state *s = CONTAINER_OF(t, struct voter_state, timer);
    uint32_t owner;
    s->plid = controller_metadata_plid(request_broker(s->rq)->controller, &owner);
    s->ask = (struct partition_facts){
        .op = {.caller = s->rq->reactor, .owner = &request_broker(s->rq)->reactors[owner], .done = voter_seen}, .count = 1,
        .plids = &s->plid, .facts = &s->fact,
    };
    partition_facts(&s->ask);
}

static void voter_done(struct controller_change *ch) {
    struct voter_state *s = ch->owner;
    if (api_change_failed(ch, s->error)) {
        s->error = api_change_error(ch->err);
        s->why = str_from(err_str(ch->err));
    }
    if (s->error || !s->wait) voter_reply(s);
    else voter_look(&s->timer);
}

static void voter_begin(struct voter_state *s, int32_t timeout_ms) {
    struct request *rq = s->rq;
    struct str own = request_uuid_text(rq, &request_broker(rq)->cluster_id);
    if (timeout_ms <= 0) timeout_ms = TIMEOUT_MS_DEFAULT;
    s->deadline_ns = rq->reactor->now_ns + MIN(timeout_ms, TIMEOUT_MS_MAX) * INT64_C(1000000);
    timer_init(&s->timer, voter_look);
    if (s->cluster.p && !str_eq(s->cluster, own)) {
        s->error = KERR_INCONSISTENT_CLUSTER_ID;
        s->why = request_printf(rq, "This is cluster %.*s", own.len, own.p);
        voter_reply(s);
        return;
    }
    s->change = (struct controller_change){.caller = rq->reactor, .make = voter_make, .done = voter_done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}

void api_add_raft_voter(struct request *rq) {
    struct k_add_raft_voter_request m;
    struct voter_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s || !request_decoded(rq, k_add_raft_voter_request_decode(&m, &rq->body, request_version(rq)))) return;
    *s = (struct voter_state){
        .rq = rq, .add = true, .wait = m.ack_when_committed, .node = m.voter_id, .directory = m.voter_directory_id, .cluster = m.cluster_id,
    };
    voter_begin(s, m.timeout_ms);
}

void api_remove_raft_voter(struct request *rq) {
    struct k_remove_raft_voter_request m;
    struct voter_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s || !request_decoded(rq, k_remove_raft_voter_request_decode(&m, &rq->body, request_version(rq)))) return;
    *s = (struct voter_state){.rq = rq, .wait = true, .node = m.voter_id, .directory = m.voter_directory_id, .cluster = m.cluster_id};
    voter_begin(s, 0);
}

/* ---- UnregisterBroker -------------------------------------------------------------------------------------- */

struct unregister_state {
    struct request *rq;
    struct controller_change change;
    int32_t node;
    int16_t error;
    struct str why;
};

static int32_t replicas_on(const struct image *im, int32_t node) {
    int32_t n = 0;
    for (uint32_t i = 0; i < im->topic_count; i++)
        for (int32_t k = 0; k < im->by_name[i]->partition_count; k++) n += image_replica_of(&im->by_name[i]->partitions[k], node) != NULL;
    return n;
}

static void unregister_make(struct controller_change *ch, struct controller_edit *e) {
    struct unregister_state *s = ch->owner;
    const struct broker *b = controller_edit_broker(e);
    const struct image *im = controller_edit_image(e);
    int32_t voters[IMAGE_REPLICAS_MAX + 1], node = s->node;
    uint32_t count = voters_wanted(b->controller, im, voters);
    int32_t replicas = replicas_on(im, node);
    s->error = KERR_INVALID_REQUEST;
    if (node == b->config.node_id) {
        s->why = request_printf(s->rq, "Broker ID %d is this broker, which leads the metadata log", node);
    } else if (!image_node(im, node)) {
        s->error = KERR_BROKER_ID_NOT_REGISTERED;
        s->why = request_printf(s->rq, "Broker ID %d is not currently registered", node);
    } else if (peer_is_up(&b->reactors[0], node)) {
        s->why = request_printf(s->rq, "Broker ID %d is running: stop it first", node);
    } else if (find_voter(voters, count, node) < count) {
        s->why = request_printf(s->rq, "Broker ID %d is a voter of the metadata log: remove it from the voters first", node);
    } else if (replicas > 0) {
        s->why = request_printf(s->rq, "Broker ID %d has replicas of %d partitions: reassign them first", node, replicas);
    } else {
        s->error = 0;
        (void)controller_remove_broker(e, node); /* `e` remembers */
    }
}

static void unregister_reply(struct controller_change *ch) {
    struct unregister_state *s = ch->owner;
    struct k_unregister_broker_response out;
    k_unregister_broker_response_init(&out);
    bool failed = api_change_failed(ch, s->error);
    out.error_code = failed ? api_change_error(ch->err) : s->error;
    out.error_message = failed ? str_from(err_str(ch->err)) : s->error ? s->why : STR_NULL;
    k_unregister_broker_response_encode(&out, request_reply_begin(s->rq), request_version(s->rq));
    request_reply(s->rq);
}

void api_unregister_broker(struct request *rq) {
    struct k_unregister_broker_request m;
    struct unregister_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s || !request_decoded(rq, k_unregister_broker_request_decode(&m, &rq->body, request_version(rq)))) return;
    *s = (struct unregister_state){.rq = rq, .node = m.broker_id};
    s->change = (struct controller_change){.caller = rq->reactor, .make = unregister_make, .done = unregister_reply, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}
