/* perform.c - what a replica asks for is done: changes to its disk, messages on their way, appends that leave at once or later. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tests/sim/quorum/world.h"

static uint64_t below(struct world *w, uint64_t n) { return prng_below(&w->prng, n); }
static bool chance(struct world *w, uint64_t one_in) { return below(w, one_in) == 0; }

const char *const world_message_names[] = {"pre-vote", "pre-vote reply", "vote", "vote reply", "append", "append reply", "install", "timeout-now"};

static void trace_message(struct world *w, const struct replica_message *m) {
    char detail[200] = "";
    if (!w->out) return;
    if (m->kind == REPLICA_APPEND) {
        int at = snprintf(detail, sizeof detail, " after (%d,%" PRId64 ")", m->prev.epoch, m->prev.offset);
        for (uint32_t i = 0; i < m->marker_count; i++)
            at += snprintf(detail + at, sizeof detail - (size_t)at, " %d@%" PRId64, m->markers[i].epoch, m->markers[i].start);
        snprintf(detail + at, sizeof detail - (size_t)at, " to %" PRId64 ", hw %" PRId64 "%s", m->end_offset, m->high_watermark, m->established ? "" : "?");
        if (m->quiet) strcat(detail, ", quiet");
    } else if (m->kind == REPLICA_APPEND_REPLY) {
        snprintf(detail, sizeof detail, m->ok ? " has (%d,%" PRId64 ")" : m->waits ? " waits" : " no: try (%d,%" PRId64 ")", m->match.epoch, m->match.offset);
    } else if (m->kind == REPLICA_INSTALL_START) {
        snprintf(detail, sizeof detail, " begin at (%d,%" PRId64 ")", m->prev.epoch, m->prev.offset);
    } else if (m->kind == REPLICA_VOTE || m->kind == REPLICA_PRE_VOTE) {
        snprintf(detail, sizeof detail, " for e%d, last (%d,%" PRId64 "), config (%d,%d)", m->asked_epoch, m->last.epoch, m->last.offset,
                 m->config.id.epoch, m->config.id.version);
    } else if (m->kind != REPLICA_TIMEOUT_NOW) {
        snprintf(detail, sizeof detail, m->ok ? " yes" : " no");
    }
    world_trace(w, "%d>%d %s e%d%s", m->from.node, m->to.node, world_message_names[m->kind], m->epoch, detail);
}

static void send(struct world *w, struct node *n, const struct replica_message *m) {
    check_sent(w, n, m);
    if (m->kind == REPLICA_APPEND_REPLY && !m->ok && !m->waits) w->coverage->rejects++;
    if (m->kind == REPLICA_PRE_VOTE_REPLY && !m->ok) w->coverage->pre_votes_refused++;
    if (m->kind == REPLICA_TIMEOUT_NOW) w->coverage->transfers++;
    if (w->net_count == NET_MAX) { /* the oldest are lost first, somewhere */
        uint32_t i = (uint32_t)below(w, NET_MAX);
        w->net[i] = w->net[--w->net_count];
    }
    struct packet *p = &w->net[w->net_count++];
    p->message = *m;
    p->to = (uint32_t)m->to.node;
    p->record_count = 0;
    if (m->kind == REPLICA_APPEND)
        for (int64_t o = m->prev.offset; o < m->end_offset; o++) p->records[p->record_count++] = *sim_log_at(&n->log, o);
    world_hash(w, ((uint64_t)m->kind << 48) ^ ((uint64_t)m->from.node << 40) ^ ((uint64_t)m->to.node << 32) ^ (uint64_t)(uint32_t)m->epoch);
    world_hash(w, ((uint64_t)m->match.offset << 32) ^ (uint64_t)m->end_offset ^ (m->ok ? 1u : 0u) << 31);
    trace_message(w, m);
}

static void shorten(struct world *w, struct replica_message *m) {
    if (m->end_offset > m->prev.offset && chance(w, 3))
        replica_message_shorten(m, m->prev.offset + (int64_t)below(w, (uint64_t)(m->end_offset - m->prev.offset) + 1));
}

static void perform(struct world *w, struct node *n, const struct packet *in_hand) {
    struct departure left[REPLICA_MEMBERS_MAX];
    uint32_t left_count = 0;
    bool was_leading = w->leaders[n->replica.epoch].node >= 0 && replica_member_eq(&w->leaders[n->replica.epoch], &n->self);
    for (uint32_t i = 0; i < w->actions.count && !w->violation; i++) {
        struct replica_action *a = &w->actions.list[i];
        switch (a->kind) {
        case REPLICA_TRUNCATE:
            w->coverage->truncations++;
            if (n->log.marker_count > 1 && n->log.markers[n->log.marker_count - 2].epoch > a->position.epoch) w->coverage->deep_truncations++;
            check_truncation(w, n, a->position);
            disk_op(w, n, a, in_hand);
            break;
        case REPLICA_RESET:
            w->coverage->installs++;
            disk_op(w, n, a, in_hand);
            break;
        case REPLICA_BEGIN_EPOCH:
            if (n->log.marker_count > 0 && n->log.markers[n->log.marker_count - 1].start == n->log.end) w->coverage->zero_length_epochs++;
            disk_op(w, n, a, in_hand);
            break;
        case REPLICA_PERSIST_CONFIG:
            w->coverage->configs++;
            disk_op(w, n, a, in_hand);
            break;
        case REPLICA_PERSIST_VOTE:
        case REPLICA_APPEND_RECORDS:
        case REPLICA_SET_START:
            disk_op(w, n, a, in_hand);
            break;
        case REPLICA_SEND: {
            if (a->message.kind == REPLICA_APPEND) {
                struct replica_message *m = &a->message;
                if (w->options.features & QUORUM_LATE) break; /* world_appends_leave() */
                if (!w->directed) shorten(w, m);
                left[left_count++] = (struct departure){a->peer, m->session, replica_message_end(m)};
            }
            send(w, n, &a->message);
            break;
        }
        case REPLICA_HIGH_WATERMARK:
            check_high_watermark(w, n, a->position.offset);
            break;
        case REPLICA_READABLE:
            world_trace(w, "%d may answer reads up to round %u", n->self.node, (unsigned)a->seq);
            check_reads(w, n, (uint32_t)a->seq);
            break;
        case REPLICA_WENT_BACK: {
            const struct replica_member *m = &n->replica.peers[a->peer].member;
            world_trace(w, "%d finds that %d lacks (%d,%" PRId64 "), which it had acknowledged", n->self.node, m->node, a->position.epoch, a->position.offset);
            check_went_back(w, m);
            break;
        }
        case REPLICA_ROLE:
            n->leads = n->replica.role == REPLICA_LEADER;
            n->established = n->replica.established;
            if (n->replica.role != REPLICA_LEADER) break;
            if (n->replica.established && n->replica.peer_count > 0) check_high_watermark(w, n, n->replica.high_watermark);
            break;
        }
    }
    if (!w->violation && (n->leads != (n->replica.role == REPLICA_LEADER) || n->established != n->replica.established))
        world_violated(w, "1 who leads has changed, and nobody was told");
    if (n->replica.role == REPLICA_LEADER && !was_leading) {
        w->coverage->elections++;
        check_leader(w, n);
    }
    for (uint32_t i = 0; i < left_count && !w->violation; i++) {
        struct replica_event sent = {.kind = REPLICA_SENT, .u.sent = {left[i].peer, left[i].session, left[i].position}};
        world_step(w, n, &sent, NULL);
    }
}

void world_perform(struct world *w, struct node *n) { perform(w, n, NULL); }

/* What an action does not set is not what an earlier one left there. */
enum err world_ask(struct world *w, struct node *n, const struct replica_event *e) {
    memset(w->actions.list, 0x5a, w->actions.count * sizeof w->actions.list[0]);
    return replica_step(&n->replica, e, &w->actions);
}

/* Clocks go alike but for a constant; a node that is not asked anything does not see the time pass. */
void world_step(struct world *w, struct node *n, struct replica_event *e, const struct packet *in_hand) {
    int64_t now = w->now_ns + n->skew_ns;
    if (now > n->now_ns) n->now_ns = now;
    e->now_ns = n->now_ns;
    (void)world_ask(w, n, e); /* refusals are as good as anything here */
    perform(w, n, in_hand);
}

/* Some that left are known to have; then those that wait leave. By then members may be others, and who leads, too. */
void world_appends_leave(struct world *w, struct node *n) {
    uint32_t known = n->left_count > 0 ? (uint32_t)below(w, n->left_count + 1) : 0;
    struct departure left[LATE_MAX];
    memcpy(left, n->left, sizeof left);
    n->left_count -= known;
    memmove(n->left, n->left + known, n->left_count * sizeof *n->left);
    for (uint32_t i = 0; i < known && !w->violation; i++) {
        struct replica_event sent = {.kind = REPLICA_SENT, .u.sent = {left[i].peer, left[i].session, left[i].position}};
        world_step(w, n, &sent, NULL);
    }
    for (uint32_t i = 0; i < n->replica.peer_count && n->left_count < LATE_MAX && !w->violation; i++) {
        struct replica_message m;
        struct departure d = {i, n->replica.peers[i].session, {0, 0}};
        bool waits = n->replica.peers[i].sending;
        for (uint32_t k = 0; k < n->left_count; k++) waits = waits && n->left[k].session != d.session;
        if (!waits) continue;
        if (replica_compose(&n->replica, i, &m)) {
            shorten(w, &m);
            send(w, n, &m);
            d.position = replica_message_end(&m);
            w->coverage->late++;
        }
        n->left[n->left_count++] = d;
    }
}
