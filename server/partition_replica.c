/* partition_replica.c - the quorum core of a partition and its log: the order in which the core's actions are performed.
 *
 * One step:
 *   1. the core decides (replica_step())
 *   2. its actions are performed, in their order: changes go into the log, that is into the journal's open slice; answers leave for the
 *      peers; appends for peers wait until the end of the turn (partition_send.c), so that one carries what many writes brought
 *   3. what was entered gets the core's number (log_set_seq()); when the journal says that it is durable, the core hears so
 *   4. the table of leaders is told, then everybody whose wait is over
 *
 * Nothing that depends on a change leaves before the core has heard that it is durable: it holds that back by itself. The core and the
 * log never part: when a change cannot be entered, for want of memory or because the directory is latched, the replica is silent from
 * then on and the process ends. Records are checked, and room for them is made sure of, before a message is shown to the core.
 *
 * A group that was always of one needs no numbers, no votes and no time: partition_durable_position() says it all. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/api_errors.h"
#include "server/controller.h"
#include "server/image.h"
#include "server/leaders.h"
#include "server/partition_config.h"
#include "server/partition_produce.h"
#include "server/peer.h"

/* D: a leader that is silent for so long may be replaced. */
#define REPLICA_TIMEOUT_NS INT64_C(500000000)
/* Clients that saw a broker die come back to it after a pause that has grown, up to ten seconds: so long others had better lead. */
#define PROCESS_YOUNG_NS INT64_C(15000000000)
/* A heartbeat where nothing happens and both ends are heard otherwise. */
#define QUIET_NS INT64_C(2000000000)

/* ---- what the core wants of the log -------------------------------------------------------------- */

/* The marker that p->epoch_due names. In a group of one it may have to wait: it is tried again before the next append. */
static enum err begin_epoch(struct partition *p) {
    enum err err = p->log->epoch == p->epoch_due ? OK : log_begin_epoch(p->log, p->epoch_due); /* or it was made with the log */
    if (err == OK) p->epoch_due = 0;
    if (partition_is_replicated(p)) return err;
    if (err == OK) {
        p->marker_seq = p->replica.seq;
        if (p->marker_seq > p->log->seq) log_set_seq(p->log, p->marker_seq); /* an epoch without records counts, too */
    }
    return OK;
}

static enum err persist_vote(struct partition *p) {
    if (!partition_is_replicated(p)) return OK; /* nobody else votes */
    const struct replica *r = &p->replica;
    struct log_vote vote = {.epoch = r->epoch, .has_voted = r->has_voted};
    if (r->has_voted) {
        vote.node = r->voted.node;
        vote.incarnation = r->voted.incarnation;
    }
    return log_set_vote(p->log, &vote);
}

static enum err persist_config(struct partition *p) {
    uint8_t bytes[PARTITION_CONFIG_BYTES_MAX];
    uint32_t len = partition_config_encode(&p->replica.config, bytes);
    p->unsettled = true;
    return log_set_replica_config(p->log, bytes, len);
}

/* The start of a log is never beyond what is durable of it, and waits for room in the journal: perhaps it moves a little later, with all moves
 * until then, and what the core takes as durable with it. (The leader has asked for room before it let a client move it.) */
static enum err set_start(struct partition *p, int64_t start, uint64_t seq) {
    bool room = partition_is_led(p) || log_start_room(p->log);
    if (!room && list_empty(&p->blocked)) list_push_back(&p->map->blocked, &p->blocked);
    if (room && start <= p->log->durable_end) {
        p->start_due = -1;
        return log_set_start(p->log, MAX(start, p->log->start), NULL, NULL);
    }
    if (p->start_due < 0) p->start_seq = seq; /* a move that waits already goes with this one */
    p->start_due = start;
    return OK;
}

/* The batches of `in` that hold the offsets [from, to). */
static struct bytes batches_between(const struct partition_incoming *in, int64_t from, int64_t to) {
    const uint8_t *p = in->records.p, *end = p + in->records.len, *first = NULL, *last = NULL;
    struct batch_header h;
    while (p < end && batch_parse(p, (size_t)(end - p), &h) == OK && h.base_offset < to) {
        if (batch_last_offset(&h) >= from && !first) first = p;
        p += h.total_bytes;
        last = p;
    }
    return (struct bytes){first, first ? (int32_t)(last - first) : 0};
}

/* What stands for a gap may begin below what is here already: only the rest of it is entered, and `batches` goes on behind it. */
static enum err append_rest_of_gap(struct partition *p, const struct replica_action *a, struct bytes *batches) {
    struct batch_header h;
    ASSERT(batch_parse(batches->p, (size_t)batches->len, &h) == OK);
    if (h.record_count != 0 || h.base_offset >= a->from) return OK;
    struct buf *rest = partition_empty_batch(a->from, batch_last_offset(&h) + 1, a->position.epoch);
    if (!rest) return ERR_NOMEM;
    enum err err = log_append_copies(p->log, a->position.epoch, rest->data, BATCH_HEADER_BYTES, p->map->reactor->now_ms);
    buf_unref(rest);
    *batches = (struct bytes){batches->p + h.total_bytes, batches->len - (int32_t)h.total_bytes};
    return err;
}

static enum err append_copies(struct partition *p, const struct replica_action *a, const struct partition_incoming *in) {
    ASSERT(in != NULL);
    struct bytes batches = batches_between(in, a->from, a->to);
    ASSERT(batches.len > 0); /* partition_receive() has looked */
    enum err err = append_rest_of_gap(p, a, &batches);
    if (err != OK || batches.len == 0) return err;
    return log_append_copies(p->log, a->position.epoch, batches.p, (size_t)batches.len, p->map->reactor->now_ms);
}

static enum err reset(struct partition *p, const struct replica_action *a, const struct partition_incoming *in) {
    ASSERT(in && in->m->kind == REPLICA_INSTALL_START);
    p->start_due = -1;
    enum err err = log_reset(p->log, a->position.epoch, a->position.offset, in->records.p, (size_t)MAX(in->records.len, 0));
    if (err != ERR_CORRUPT) return err;
    trace_warn("replica", "%s-%d: the producers that came with a log start cannot be read", p->log->topic, p->log->partition);
    return log_reset(p->log, a->position.epoch, a->position.offset, NULL, 0);
}

/* ---- one step ------------------------------------------------------------------------------------ */

/* Of thousands of partitions the same at once: trace.h sees to that. */
static void say_went_back(const struct partition *p, const struct replica_action *a) {
    int32_t node = p->replica.peers[a->peer].member.node;
    trace_error("replica", "%s-%d: node %d has acknowledged everything up to offset %lld (epoch %d) and does not have it any more: its data directory went back "
                "in time (was it restored from a copy?), or its disk loses what it has synced. It gets the records, but its acknowledgements and "
                "votes count for nothing. Stop it, and start it with an empty data directory", p->log->topic, p->log->partition, node,
                (long long)a->position.offset, a->position.epoch);
}

static enum err perform(struct partition *p, const struct replica_action *a, const struct partition_incoming *in) {
    switch (a->kind) {
    case REPLICA_PERSIST_VOTE: return persist_vote(p);
    case REPLICA_PERSIST_CONFIG: return persist_config(p);
    case REPLICA_BEGIN_EPOCH:
        p->epoch_due = a->position.epoch;
        return begin_epoch(p);
    case REPLICA_APPEND_RECORDS: return append_copies(p, a, in);
    case REPLICA_TRUNCATE:
        trace_info("replica", "%s-%d: offsets from %lld on were never committed and go", p->log->topic, p->log->partition,
                   (long long)a->position.offset);
        return log_truncate(p->log, a->position.epoch, a->position.offset);
    case REPLICA_SET_START: return set_start(p, a->position.offset, a->seq);
    case REPLICA_RESET: return reset(p, a, in);
    case REPLICA_SEND: partition_send_now(p, a); return OK;
    case REPLICA_WENT_BACK: say_went_back(p, a); return OK;
    case REPLICA_READABLE: p->readable_round = (uint32_t)a->seq; return OK;
    case REPLICA_HIGH_WATERMARK:
    case REPLICA_ROLE: return OK; /* looked at when all are done */
    }
    return OK;
}

/* The replica and its log have parted. */
static void give_up(struct partition *p, enum err err) {
    struct reactor *r = p->map->reactor;
    p->started = false;
    timer_cancel(&r->timers, &p->timer);
    if (err == ERR_CLOSED || err == ERR_IO) return; /* the store stops, or has failed and told so */
    trace_error("replica", "%s-%d: a change cannot be written: %s", p->log->topic, p->log->partition, err_str(err));
    io_fatal(r->io, 1, "a partition's log cannot follow what its replica group has decided");
}

static void number_changes(struct partition *p) {
    uint64_t seq = p->replica.seq;
    if (p->start_due >= 0 && seq >= p->start_seq) seq = p->start_seq - 1;
    if (seq > p->log->seq) log_set_seq(p->log, seq);
}

static enum err perform_all(struct partition *p, const struct partition_incoming *in) {
    const struct replica_actions *actions = &p->map->actions;
    enum err err = OK;
    for (uint32_t i = 0; i < actions->count && err == OK; i++) err = perform(p, &actions->list[i], in);
    if (err != OK || !partition_is_replicated(p)) return err;
    number_changes(p);
    ASSERT(p->log->end == p->replica.walk.end && p->log->epoch == walk_last(&p->replica.walk).epoch);
    return OK;
}

/* As it was before a step, for those who are to hear of changes. */
struct before { bool led, established; int32_t epoch; int64_t high_watermark; struct replica_config_id config; };

static struct before note(const struct partition *p) {
    const struct replica *r = &p->replica;
    return (struct before){partition_is_led(p), r->established, partition_shown_epoch(p), r->high_watermark, r->config.id};
}

/* The core's time stands still while this thread does not run (reactor.awake_ns). Thousands of partitions must not wake it thousands of
 * times: heartbeats wait for a beat that all share, and who waits for a leader's silence looks on such beats whether it was heard
 * meanwhile, which puts its time off; only what is really near is kept to the point. */
#define BEAT_NS INT64_C(20000000)
#define SETTLE_RETRY_NS (REPLICA_TIMEOUT_NS / 5)
static void arm(struct partition *p) {
    struct reactor *r = p->map->reactor;
    int64_t at = replica_deadline(&p->replica), wait_ns = at - r->awake_ns;
    if (at == INT64_MAX) return;
    at += r->now_ns - r->awake_ns;
    if (wait_ns > BEAT_NS) at -= at % BEAT_NS;
    if (wait_ns > BEAT_NS && partition_is_led(p)) at += BEAT_NS;
    if (p->unsettled && partition_is_led(p)) at = MIN(at, r->now_ns + SETTLE_RETRY_NS); /* however quiet it is */
    if (timer_armed(&p->timer) && p->timer.deadline_ns <= at) return;
    timer_set(&r->timers, &p->timer, at);
}

/* ---- who is told ----------------------------------------------------------------------------------- */

static uint16_t in_sync(const struct partition *p) {
    const struct replica *r = &p->replica;
    uint16_t bits = 0;
    for (uint32_t i = 0; i < r->config.count; i++)
        if (replica_keeps_up(r, &r->config.members[i], p->map->reactor->awake_ns)) bits |= (uint16_t)(1u << i);
    return bits;
}

uint32_t partition_in_sync_voters(struct partition *p) {
    partition_vouch(p);
    return (uint32_t)__builtin_popcount(in_sync(p) & ((1u << p->replica.config.voters) - 1));
}

static void report(struct partition *p, int32_t epoch) {
    const struct replica *r = &p->replica;
    struct leader_info info = {
        .epoch = epoch, .leader = partition_is_led(p) ? r->self.node : -1, .established = r->established && partition_is_led(p),
        .voters = r->config.voters, .count = r->config.count, .in_sync = p->in_sync,
    };
    for (uint32_t i = 0; i < info.count; i++) info.members[i] = r->config.members[i].node;
    leaders_report(p->map->reactor, p->plid, &info);
}

/* The end of leading: whoever waits for this leader asks another one. */
static void tell_lost(struct partition *p) {
    partition_fail_produces(p, KERR_NOT_LEADER_OR_FOLLOWER);
    partition_fail_deletions(p, KERR_NOT_LEADER_OR_FOLLOWER);
    partition_fail_latest(p, KERR_NOT_LEADER_OR_FOLLOWER);
    partition_end_handovers(p, KERR_NONE);
}

/* Writes and what became durable change nothing of who is in sync: `look` spares them the question. */
static void tell_leaders(struct partition *p, const struct before *was, bool look) {
    const struct replica *r = &p->replica;
    struct reactor *reactor = p->map->reactor;
    bool led = partition_is_led(p), changed = led != was->led || r->established != was->established || partition_shown_epoch(p) != was->epoch ||
                                              replica_config_compare(r->config.id, was->config) != 0;
    bool follows = !led && r->has_leader && r->epoch != p->followed_epoch;
    if (changed || follows) controller_quorum_changed(reactor, p->plid);
    if (led && !was->led) p->led_since_ns = reactor->awake_ns;
    if (led != was->led || (led && r->established != was->established))
        trace_debug("replica", "%s-%d: %s, epoch %d", p->log->topic, p->log->partition,
                    !led ? "leads no more" : r->established ? "leads and is established" : "leads", led ? r->epoch : was->epoch);
    if (follows) {
        p->followed_epoch = r->epoch;
        leaders_follow(reactor, p->plid, r->epoch, r->leader.node);
    }
    if (!led && was->led) {
        p->in_sync = 0; /* of the configuration in which it led; this may be another one, with fewer members */
        report(p, was->epoch);
    }
    if (!led) return;
    uint16_t now = changed || (look && r->peer_count > 0) ? in_sync(p) : p->in_sync;
    if (!changed && now == p->in_sync) return;
    p->in_sync = now;
    report(p, partition_shown_epoch(p));
    partition_settle_soon(p);
}

static void tell_waiters(struct partition *p, const struct before *was, bool message) {
    const struct replica *r = &p->replica;
    bool moved = r->high_watermark != was->high_watermark, established = partition_is_led(p) && r->established;
    if (was->led && !partition_is_led(p)) tell_lost(p);
    if (established && (!was->established || !was->led)) partition_pump(p);
    if (moved || (message && !list_empty(&p->committed))) partition_complete_produces(p);
    if (message && !list_empty(&p->deletions)) partition_check_deletions(p);
    if (!list_empty(&p->latest)) partition_answer_latest(p);
    if (moved || was->established != r->established || was->led != partition_is_led(p)) partition_wake_watchers(p);
}

/* ---- the metadata log ----------------------------------------------------------------------------------- */

/* What is committed followers learn with the next append, or heartbeat. All brokers wait for what metadata says: a round at once. */
static void tell_followers(struct partition *p) {
    if (!partition_is_led(p) || !p->replica.established || p->replica.peer_count == 0) return;
    (void)partition_step(p, &(struct replica_event){.kind = REPLICA_READ, .now_ns = p->map->reactor->awake_ns}, NULL);
}

/* ---- peers that are quiet --------------------------------------------------------------------------- */

static void silent_step(struct partition *p, const struct replica_event *event) {
    (void)replica_step(&p->replica, event, &p->map->actions);
    ASSERT(p->map->actions.count == 0);
}

static void vouch_for(struct partition *p, const struct replica_member *m) {
    struct replica_event event = {.kind = REPLICA_VOUCHED, .now_ns = p->map->reactor->awake_ns, .u.vouched.member = *m};
    if (peer_vouched(p->map->reactor, m->node, p->plid, &event.u.vouched.at_ns)) silent_step(p, &event);
}

void partition_vouch(struct partition *p) {
    const struct replica *core = &p->replica;
    const struct reactor *r = p->map->reactor;
    if (!core->quiet && !core->leader_quiet) return;
    if (r->slept_ns > p->quiet_since_ns) { /* what lies in the sockets is from before */
        silent_step(p, &(struct replica_event){.kind = REPLICA_DOUBT, .now_ns = r->awake_ns});
        return;
    }
    if (!partition_is_led(p)) {
        struct replica_member leader = core->leader;
        vouch_for(p, &leader);
        return;
    }
    for (uint32_t i = 0; i < core->peer_count; i++) {
        struct replica_member m = core->peers[i].member;
        vouch_for(p, &m);
    }
}

static void note_quiet(struct partition *p) {
    bool quiet = p->replica.quiet || p->replica.leader_quiet;
    if (!quiet) p->quiet_since_ns = 0;
    else if (p->quiet_since_ns == 0) p->quiet_since_ns = p->map->reactor->awake_ns;
}

void partition_leader_resigned(struct reactor *r, uint64_t group, int32_t node, int32_t epoch) {
    struct partition *p = r->partitions ? partition_find(r, group) : NULL;
    if (!p || !p->started || r->partitions->stop_error || partition_is_led(p)) return;
    const struct replica *core = &p->replica;
    if (core->has_leader && core->leader.node == node && core->epoch == epoch)
        (void)partition_step(p, &(struct replica_event){.kind = REPLICA_DOUBT, .now_ns = r->awake_ns}, NULL);
}

/* ---- the step ------------------------------------------------------------------------------------------ */

enum err partition_step(struct partition *p, const struct replica_event *event, const struct partition_incoming *in) {
    if (!p->started || p->gone) return ERR_CLOSED;
    partition_vouch(p);
    struct before was = note(p);
    enum err err = replica_step(&p->replica, event, &p->map->actions);
    enum err entered = perform_all(p, in);
    if (entered != OK) {
        give_up(p, entered);
        return entered;
    }
    note_quiet(p);
    arm(p);
    tell_leaders(p, &was, event->kind == REPLICA_MESSAGE || event->kind == REPLICA_TICK);
    tell_waiters(p, &was, event->kind == REPLICA_MESSAGE);
    if (p->plid == METADATA_GROUP && p->replica.high_watermark != was.high_watermark) tell_followers(p);
    return err;
}

static enum err step_at(struct partition *p, enum replica_event_kind kind, struct replica_position at) {
    struct replica_event event = {.kind = kind, .now_ns = p->map->reactor->awake_ns, .u.position = at};
    return partition_step(p, &event, NULL);
}

/* ---- the start ------------------------------------------------------------------------------------- */

/* A log of times when there were only groups of one has no configuration. */
static enum err first_config(const struct partition *p, struct replica_start *from) {
    const struct log *l = p->log;
    if (l->replica_config) return partition_config_decode(&from->config, l->replica_config, l->replica_config_len);
    from->config = (struct replica_config){.id = {0, 1}, .voters = 1, .count = 1, .members = {from->self}};
    return OK;
}

static enum err first_markers(const struct log *l, struct replica_start *from, struct replica_marker **markers) {
    *markers = malloc((l->epochs.count + 1) * sizeof **markers);
    if (!*markers) return ERR_NOMEM;
    for (uint32_t i = 0; i < l->epochs.count; i++)
        if (l->epochs.entries[i].start >= l->start)
            (*markers)[from->marker_count++] = (struct replica_marker){l->epochs.entries[i].epoch, l->epochs.entries[i].start};
    from->markers = *markers;
    return OK;
}

enum err partition_start_replica(struct partition *p, bool campaign_soon) {
    const struct log *l = p->log;
    const struct broker *b = p->map->reactor->broker;
    struct replica_start from = {
        .self = {b->config.node_id, replica_incarnation(log_store_incarnation(b->store), log_plid_life(l->plid))}, .epoch = l->vote.epoch, .has_voted = l->vote.has_voted,
        .voted = {l->vote.node, l->vote.incarnation}, .base = {l->base_epoch, l->start}, .end = l->end,
        .timeout_ns = REPLICA_TIMEOUT_NS, .campaign_soon = campaign_soon, .young_until_ns = p->map->reactor->born_ns + PROCESS_YOUNG_NS,
        .relaxed = b->config.relaxed,
        .quiet_ns = p->plid == METADATA_GROUP ? 0 : QUIET_NS, /* one group of thousands */
    };
    struct replica_marker *markers = NULL;
    from.seed = p->plid ^ load_le64(from.self.incarnation.b) ^ (uint64_t)p->map->reactor->now_ns; /* others must draw other times */
    enum err err = first_config(p, &from);
    if (err == OK && p->created) err = first_markers(l, &from, &markers);
    if (err != OK) return err;
    struct replica_event event = {.kind = REPLICA_START, .now_ns = p->map->reactor->awake_ns, .u.start = &from};
    p->started = true;
    err = partition_step(p, &event, NULL);
    free(markers);
    return err;
}

/* ---- what becomes durable ---------------------------------------------------------------------------- */

/* The marker of the last epoch counts once it, or something behind it, is durable; the first one was durable when the core began. */
struct replica_position partition_durable_position(const struct partition *p) {
    const struct log *l = p->log;
    if (l->durable_end > l->epoch_start) return (struct replica_position){l->epoch, l->durable_end};
    if (p->marker_seq > 0 && l->durable_seq >= p->marker_seq) return (struct replica_position){l->epoch, l->durable_end};
    int32_t below = l->durable_end > l->start ? epochs_at(&l->epochs, l->durable_end - 1) : l->base_epoch;
    return (struct replica_position){MAX(below, p->replica.durable.epoch), l->durable_end};
}

void partition_start_that_was_due(struct partition *p) {
    if (p->gone || !p->started || p->start_due < 0 || p->start_due > p->log->durable_end) return;
    enum err err = set_start(p, p->start_due, p->start_seq);
    if (err != OK) give_up(p, err);
    else number_changes(p);
}

void partition_on_durable(struct log *l, void *owner) {
    struct partition *p = owner;
    if (p->gone || !p->started) return;
    if (atomic_load_explicit(&p->map->reactor->broker->failed, memory_order_acquire)) {
        partition_fail_produces(p, KERR_KAFKA_STORAGE_ERROR);
        return;
    }
    if (partition_is_replicated(p)) {
        struct replica_event event = {.kind = REPLICA_DURABLE, .now_ns = p->map->reactor->awake_ns, .u.seq = l->durable_seq};
        partition_start_that_was_due(p);
        (void)partition_step(p, &event, NULL);
    } else {
        (void)step_at(p, REPLICA_DURABLE_AT, partition_durable_position(p));
    }
    partition_complete_durable(p);
}

/* ---- writes of a leader -------------------------------------------------------------------------------- */

/* Most writes find a leader in the middle of its epoch: the core has nothing to say to them. */
enum err partition_before_append(struct partition *p) {
    if (p->epoch_due == 0) {
        if (replica_takes_writes(&p->replica)) return OK;
        enum err err = step_at(p, REPLICA_WRITE, (struct replica_position){0, 0});
        if (err != OK) return err;
    }
    if (p->epoch_due != 0 && begin_epoch(p) != OK) return ERR_AGAIN;
    return p->epoch_due == 0 ? OK : ERR_AGAIN;
}

/* Where there are no others, nothing follows from it before it is durable. */
void partition_after_append(struct partition *p) {
    struct replica_event event = {.kind = REPLICA_APPENDED, .now_ns = p->map->reactor->awake_ns, .u.position = {p->log->epoch, p->log->end}};
    if (partition_is_replicated(p)) {
        (void)partition_step(p, &event, NULL);
        return;
    }
    (void)replica_step(&p->replica, &event, &p->map->actions);
    ASSERT(p->map->actions.count == 0);
}

/* ---- time and peers -------------------------------------------------------------------------------------- */

void partition_timer(struct timer *t) {
    struct partition *p = CONTAINER_OF(t, struct partition, timer);
    struct reactor *r = p->map->reactor;
    partition_vouch(p);
    if (r->awake_ns < replica_deadline(&p->replica)) { /* it was put off meanwhile */
        arm(p);
    } else if (partition_is_led(p) || !p->map->leaving) {
        struct replica_event event = {.kind = REPLICA_TICK, .now_ns = r->awake_ns};
        (void)partition_step(p, &event, NULL);
    }
    if (!partition_is_led(p)) return;
    if (!list_empty(&p->queue) && list_empty(&p->blocked)) partition_pump(p); /* a transfer may have been given up */
    if (p->unsettled) partition_settle_soon(p);
}

/* Batches behind each other from m->prev to m->end_offset, each in one epoch. What lies between two is gone by compaction. */
static bool records_fit(const struct replica_message *m, struct bytes records, uint32_t batch_max) {
    const uint8_t *p = records.p, *end = p + records.len;
    int64_t at = m->prev.offset;
    int32_t epoch = m->prev.epoch;
    uint32_t marker = 0;
    while (p < end) {
        struct batch_header h;
        if (batch_parse(p, (size_t)(end - p), &h) != OK || batch_check(&h) != OK || !batch_crc_ok(p, &h) || h.total_bytes > batch_max) return false;
        int64_t last = batch_last_offset(&h);
        for (; marker < m->marker_count && m->markers[marker].start <= MAX(h.base_offset, at); marker++) {
            if (m->markers[marker].start > at) return false;
            epoch = m->markers[marker].epoch;
        }
        bool first_holds_prev = p == records.p && h.base_offset < at && last >= at;
        if ((h.base_offset < at && !first_holds_prev) || h.leader_epoch != epoch || last >= m->end_offset) return false;
        if (marker < m->marker_count && last >= m->markers[marker].start) return false;
        at = last + 1;
        p += h.total_bytes;
    }
    return at == m->end_offset;
}

#define COMPLAIN_EVERY_NS INT64_C(1000000000)
/* Whether what it brings can be entered now; else it is as if it was lost, and comes again. */
static bool can_take(struct partition *p, const struct replica_message *m, struct bytes records) {
    if (m->kind != REPLICA_APPEND) return true;
    if (!records_fit(m, records, log_batch_max(p->log))) {
        struct partition_map *map = p->map;
        if (map->reactor->now_ns < map->next_error_ns) return false;
        map->next_error_ns = map->reactor->now_ns + COMPLAIN_EVERY_NS;
        trace_error("replica", "%s-%d: broker %d sends records that are not those it names, or larger than this journal can take (offsets "
                    "%lld to %lld)", p->log->topic, p->log->partition, m->from.node, (long long)m->prev.offset, (long long)m->end_offset);
        return false;
    }
    return records.len <= 0 || log_room(p->log, (uint32_t)records.len) == OK;
}

void partition_receive(struct reactor *r, uint64_t group, const struct replica_message *m, struct bytes records) {
    struct partition *p = r->partitions ? partition_find(r, group) : NULL;
    if (p && m->kind == REPLICA_APPEND) p->leaders_mark = MAX(p->leaders_mark, m->high_watermark);
    if (!p || !p->started || r->partitions->stop_error || !can_take(p, m, records)) return;
    if (m->kind == REPLICA_TIMEOUT_NOW && r->partitions->leaving) return;
    struct partition_incoming in = {m, records};
    struct replica_event event = {.kind = REPLICA_MESSAGE, .now_ns = r->awake_ns, .u.message = m};
    (void)partition_step(p, &event, &in);
}

static void lost(struct partition *p, const struct replica_member *m) {
    struct replica_event event = {.kind = REPLICA_PEER_LOST, .now_ns = p->map->reactor->awake_ns, .u.member = *m};
    (void)partition_step(p, &event, NULL);
}

void partition_peer_lost(struct reactor *r, int32_t node) {
    if (!r->partitions || r->partitions->stop_error) return;
    struct partition *p, *next;
    HASH_ITER(hh, r->partitions->by_plid, p, next) {
        const struct replica *core = &p->replica;
        if (!p->started) continue;
        if (!partition_is_led(p)) {
            struct replica_member leader = core->leader;
            if (core->has_leader && leader.node == node) lost(p, &leader);
            continue;
        }
        for (uint32_t i = 0; i < core->peer_count; i++) {
            struct replica_member m = core->peers[i].member;
            if (m.node == node) lost(p, &m);
        }
    }
}

/* ---- members ------------------------------------------------------------------------------------------- */

const struct replica *partition_replica(struct reactor *r, uint64_t group) {
    struct partition *p = partition_find(r, group);
    if (!p || !p->started) return NULL;
    partition_vouch(p);
    return &p->replica;
}

enum err partition_reconfigure(struct reactor *r, uint64_t group, const struct replica_config *to) {
    struct partition *p = partition_find(r, group);
    if (!p || !p->started) return ERR_CLOSED;
    if (p->epoch_due != 0) return ERR_AGAIN;
    struct replica_event event = {.kind = REPLICA_RECONFIGURE, .now_ns = r->awake_ns, .u.config = to};
    return partition_step(p, &event, NULL);
}

enum err partition_observe(struct reactor *r, uint64_t group, const struct replica_member *list, uint32_t count) {
    struct partition *p = partition_find(r, group);
    if (!p || !p->started) return ERR_CLOSED;
    if (p->epoch_due != 0) return ERR_AGAIN;
    bool same = p->replica.observer_count == count;
    for (uint32_t i = 0; same && i < count; i++) same = replica_member_eq(&p->replica.observers[i], &list[i]);
    if (same) return OK;
    struct replica_event event = {.kind = REPLICA_OBSERVE, .now_ns = r->awake_ns, .u.observers = {list, count}};
    return partition_step(p, &event, NULL);
}

enum err partition_transfer(struct reactor *r, uint64_t group, const struct replica_member *to) {
    struct partition *p = partition_find(r, group);
    if (!p || !p->started) return ERR_CLOSED;
    struct replica_event event = {.kind = REPLICA_TRANSFER, .now_ns = r->awake_ns, .u.member = *to};
    return partition_step(p, &event, NULL);
}

void partition_settle_soon(struct partition *p) {
    p->unsettled = true;
    if (list_empty(&p->to_settle)) list_push_back(&p->map->to_settle, &p->to_settle);
}

void partition_unsettle(struct reactor *r, uint64_t group) {
    struct partition *p = partition_find(r, group);
    if (p && partition_is_led(p)) partition_settle_soon(p);
}

void partition_unsettle_all(struct reactor *r) {
    struct partition *p, *next;
    HASH_ITER(hh, r->partitions->by_plid, p, next) if (partition_is_led(p)) partition_settle_soon(p);
}

/* As many as a turn has time for: each may end in a change of its group. A group of one has no heartbeat that would bring it here again. */
enum { SETTLES_A_TURN = 64 };
bool partition_settle(struct partition_map *m) {
    struct list *node;
    for (int n = 0; n < SETTLES_A_TURN && (node = list_pop_front(&m->to_settle)); n++) {
        struct partition *p = LIST_ENTRY(node, struct partition, to_settle);
        if (!p->started || p->gone || !partition_is_led(p) || !p->replica.established) continue;
        p->unsettled = false;
        if (partition_reconcile(m->reactor, p->plid)) continue;
        p->unsettled = true;
        if (!timer_armed(&p->timer)) timer_set(&m->reactor->timers, &p->timer, m->reactor->now_ns + SETTLE_RETRY_NS);
    }
    return !list_empty(&m->to_settle);
}
