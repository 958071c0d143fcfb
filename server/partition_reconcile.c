/* partition_reconcile.c - a group's members and leader, brought step by step to what metadata wants (server/reconcile_plan.h).
 *
 * Runs where the group is led. What is wanted of a partition: a voter for each replica that does not leave, as its node is
 * now; of the metadata log: the quorum votes, all other brokers learn. When a reassignment has got where it should, the
 * controller is told (server/reassign.h).
 *
 * Leadership goes to the preferred replica when that has been in sync for a while, and only a few at a time: clients have to find each
 * new leader. A drained broker, one that stops, and one whose disk is full or does not answer hand over
 * without that wait. */
#include <stdlib.h>
#include <uthash.h>
#include "base/assert.h"
#include "base/trace.h"
#include "proto/reassign.pb-c.h"
#include "replication/replica.h"
#include "server/partition.h"
#include "server/peer.h"
#include "server/reassign.h"
#include "server/reconcile.h"
#include "server/reconcile_plan.h"

#define PREFER_AFTER_NS 2000000000       /* in sync for so long */
/* A client that found a broker dead tries to connect to it again in growing intervals, of 10 s at most with the default settings of librdkafka,
 * and knows nothing of its return before. Leadership that goes there earlier is out of reach for such a client until then. */
#define PREFER_BACK_NS INT64_C(11000000000)
#define TRANSFERS_WINDOW_NS 100000000
#define REPORT_AFTER_NS 5000000          /* more may get there meanwhile */
#define REPORT_TIMEOUT_NS 5000000000
enum { TRANSFERS_A_WINDOW = 10, REPORTS_MAX = 256 };

struct waiting { uint64_t group; int64_t since_ns; UT_hash_handle hh; };
struct reconciler {
    struct reactor *reactor;
    struct waiting *preferred;           /* groups whose preferred replica could lead, since when */
    int64_t window_ns;                   /* transfers are counted since */
    uint32_t transfers;
    bool leaving;                        /* the broker stops */
    enum peer_disk disk;                 /* reconciler_disk() */
    int64_t disk_full_ns, disk_well_ns;  /* the disk is full since; it is well since. 0: it is otherwise */
    int64_t stuck_over_ns, stuck_for_ns; /* it was said to answer again; it was to be well for so long before. 0: never */
    uint64_t waiting;                    /* log_shard_waiting(), at the newest look, */
    uint32_t waiting_looks;              /* and at so many before it */
    uint32_t disks;                      /* those that are not well, in a number; of the newest look */
    struct timer disk_timer;
    /* groups that are at their target */
    struct reassign_at_target reports[REPORTS_MAX];
    uint32_t report_count;
    bool away;                           /* they are being reported */
    struct timer timer;
    struct peer_call call;
    struct controller_change change;
    uint8_t *packed;
    /* the quorum, to be written down */
    struct controller_change quorum_change;
    int32_t quorum[REPLICA_MEMBERS_MAX];
    uint32_t quorum_count;
    bool quorum_away;
};

/* ---- reports to the controller ------------------------------------------------------------------------------------ */

static void reports_done(struct reconciler *c) {
    free(c->packed);
    c->packed = NULL;
    c->report_count = 0; /* what did not come to pass is noted again with the next heartbeat */
    c->away = false;
}
static void report_make(struct controller_change *ch, struct controller_edit *e) {
    const struct reconciler *c = ch->owner;
    reassign_complete(e, c->reports, c->report_count);
}
static void report_made(struct controller_change *ch) { reports_done(ch->owner); }
static void report_called(struct peer_call *call) { reports_done(call->owner); }

/* NULL: memory. */
static uint8_t *pack_reports(const struct reconciler *c, size_t *len) {
    Varve__Reassign__AtTarget m = VARVE__REASSIGN__AT_TARGET__INIT;
    Varve__Reassign__AtTarget__Partition list[REPORTS_MAX], *p[REPORTS_MAX];
    for (uint32_t i = 0; i < c->report_count; i++) {
        p[i] = &list[i];
        varve__reassign__at_target__partition__init(p[i]);
        list[i].topic_id = (ProtobufCBinaryData){sizeof c->reports[i].topic.b, (uint8_t *)c->reports[i].topic.b};
        list[i].partition = c->reports[i].partition;
        list[i].replicas_offset = c->reports[i].replicas_offset;
    }
    m.partitions = p;
    m.n_partitions = c->report_count;
    *len = varve__reassign__at_target__get_packed_size(&m);
    uint8_t *packed = malloc(MAX(*len, (size_t)1));
    if (packed) varve__reassign__at_target__pack(&m, packed);
    return packed;
}

static void send_reports(struct timer *t) {
    struct reconciler *c = CONTAINER_OF(t, struct reconciler, timer);
    struct broker *b = c->reactor->broker;
    int32_t node = controller_leader_node(b);
    size_t len = 0;
    c->away = true;
    if (controller_is_active(b)) {
        c->change = (struct controller_change){.caller = c->reactor, .make = report_make, .done = report_made, .owner = c};
        controller_submit(b->controller, &c->change);
        return;
    }
    if (node >= 0 && node != b->config.node_id) c->packed = pack_reports(c, &len);
    if (!c->packed) {
        reports_done(c);
        return;
    }
    c->call = (struct peer_call){
        .caller = c->reactor, .node = node, .kind = PEER_CALL_REASSIGNED, .request = {c->packed, (int32_t)len}, .timeout_ns = REPORT_TIMEOUT_NS,
        .done = report_called, .owner = c,
    };
    peer_call(&c->call);
}

static void report(struct reconciler *c, const struct image_topic *t, int32_t partition) {
    struct reassign_at_target r = {.topic = t->id, .partition = partition, .replicas_offset = t->partitions[partition].replicas_offset};
    if (c->away || c->report_count == REPORTS_MAX) return;
    for (uint32_t i = 0; i < c->report_count; i++)
        if (c->reports[i].partition == partition && uuid_eq(&c->reports[i].topic, &r.topic)) return;
    c->reports[c->report_count++] = r;
    if (!timer_armed(&c->timer)) timer_set(&c->reactor->timers, &c->timer, c->reactor->now_ns + REPORT_AFTER_NS);
}

/* ---- the quorum of a cluster that has just been formed ---------------------------------------------------------------- */

static void quorum_make(struct controller_change *ch, struct controller_edit *e) {
    const struct reconciler *c = ch->owner;
    if (controller_edit_image(e)->quorum_voter_count == 0) (void)controller_set_quorum(e, c->quorum, c->quorum_count); /* `e` remembers */
}
static void quorum_made(struct controller_change *ch) {
    struct reconciler *c = ch->owner;
    c->quorum_away = false; /* tried again with the next heartbeat if it did not come to pass */
}

/* Who votes is written into metadata before the first change of the members: a voter that loses its disk is dropped for a while, and has to
 * be remembered meanwhile. */
static void write_quorum(struct reconciler *c, const struct replica *core) {
    if (c->quorum_away) return;
    c->quorum_count = 0;
    for (int i = 0; i < core->config.voters; i++) {
        uint32_t k = c->quorum_count++;
        for (; k > 0 && c->quorum[k - 1] > core->config.members[i].node; k--) c->quorum[k] = c->quorum[k - 1];
        c->quorum[k] = core->config.members[i].node;
    }
    c->quorum_away = true;
    c->quorum_change = (struct controller_change){.caller = c->reactor, .make = quorum_make, .done = quorum_made, .owner = c};
    controller_submit(c->reactor->broker->controller, &c->quorum_change);
}

/* ---- disks that are full, or do not answer ------------------------------------------------------------------------------ */

#define DISK_LOOK_NS 500000000
#define STUCK_AGAIN_NS INT64_C(60000000000) /* soon after it was said to answer again */

static bool disk_is_stuck(struct reconciler *c) {
    uint64_t waiting = log_shard_waiting(c->reactor->shard);
    c->waiting_looks = waiting != 0 && waiting == c->waiting ? c->waiting_looks + 1 : 0;
    c->waiting = waiting;
    return c->waiting_looks >= RECONCILE_DISK_STUCK_LOOKS;
}

static void disk_tell(const struct reconciler *c, enum peer_disk before) {
    const char *dir = c->reactor->broker->config.data_path;
    if (c->disk == PEER_DISK_STUCK && before != c->disk)
        trace_warn("broker", "%s: reactor %u: a write has not come to an end for seconds: until the disk answers, others lead what they can", dir,
                   c->reactor->index);
    if (before == PEER_DISK_STUCK && before != c->disk) trace_info("broker", "%s: reactor %u: the disk answers again", dir, c->reactor->index);
}

/* A disk that hangs for a moment again and again, as those of all brokers may, would send leadership round in circles. */
static void note_stuck(struct reconciler *c) {
    if (c->disk == PEER_DISK_STUCK) return;
    bool again = c->stuck_for_ns != 0 && c->reactor->now_ns - c->stuck_over_ns < STUCK_AGAIN_NS;
    c->stuck_for_ns = again ? MIN(2 * c->stuck_for_ns, RECONCILE_DISK_WELL_MAX_NS) : RECONCILE_DISK_WELL_NS;
    c->disk = PEER_DISK_STUCK;
}

static void note_well(struct reconciler *c) {
    bool stuck = c->disk == PEER_DISK_STUCK;
    if (c->reactor->now_ns - c->disk_well_ns < (stuck ? c->stuck_for_ns : RECONCILE_DISK_WELL_NS)) return;
    if (stuck) c->stuck_over_ns = c->reactor->now_ns;
    c->disk = PEER_DISK_WELL;
}

static void disk_look_here(struct reconciler *c) {
    int64_t now = c->reactor->now_ns;
    enum peer_disk before = c->disk;
    bool full = log_shard_disk_full(c->reactor->shard), stuck = disk_is_stuck(c), well = !full && !stuck;
    if (!full) c->disk_full_ns = 0;
    else if (c->disk_full_ns == 0) c->disk_full_ns = now;
    if (!well) c->disk_well_ns = 0;
    else if (c->disk_well_ns == 0) c->disk_well_ns = now;
    if (stuck) note_stuck(c);
    else if (full && now - c->disk_full_ns >= RECONCILE_DISK_FULL_NS) c->disk = PEER_DISK_FULL;
    else if (well) note_well(c);
    if (c->disk == PEER_DISK_STUCK && before != c->disk) atomic_fetch_add(&c->reactor->broker->disk_stuck, 1);
    if (before == PEER_DISK_STUCK && before != c->disk) atomic_fetch_sub(&c->reactor->broker->disk_stuck, 1);
    disk_tell(c, before);
}

/* Who should lead is asked again when a disk is not well now, or is again. */
static void disk_look(struct timer *t) {
    struct reconciler *c = CONTAINER_OF(t, struct reconciler, disk_timer);
    const struct image *im = reactor_image(c->reactor);
    disk_look_here(c);
    uint32_t disks = c->disk;
    for (uint32_t i = 0; im && i < im->node_count; i++) {
        enum peer_disk disk = peer_disk(c->reactor, im->nodes[i].node);
        disks = disks * 31 + (disk != PEER_DISK_WELL ? 3 * (uint32_t)im->nodes[i].node + 2u + disk : 0);
    }
    if (disks != c->disks) partition_unsettle_all(c->reactor);
    c->disks = disks;
    timer_set(&c->reactor->timers, t, c->reactor->now_ns + DISK_LOOK_NS);
}

enum peer_disk reconciler_disk(const struct reactor *r) { return r->reconciler ? r->reconciler->disk : PEER_DISK_WELL; }

enum peer_disk reconciler_disk_of_broker(const struct reactor *r) {
    return atomic_load(&r->broker->disk_stuck) > 0 ? PEER_DISK_STUCK : reconciler_disk(r);
}

/* Whether a partition of `t` (NULL: the metadata log) would rather be led elsewhere. The cluster's own topics may use some of a full disk's
 * reserve. */
static bool lacks_disk(const struct reactor *r, int32_t node, const struct image_topic *t) {
    enum peer_disk disk = node == r->broker->config.node_id ? reconciler_disk(r) : peer_disk(r, node);
    return disk == PEER_DISK_STUCK || (disk == PEER_DISK_FULL && t && !t->internal);
}

/* ---- what is wanted -------------------------------------------------------------------------------------------------- */

/* A life of the replica on a node as that is now. What nobody has registered is as the configuration has it, or as it was when it
 * was assigned. */
static struct replica_member member_of(const struct image *im, const struct replica *core, int32_t node, uint32_t life, const struct uuid *assigned) {
    const struct image_node *n = image_node(im, node);
    if (node == core->self.node) return core->self;
    if (n) return (struct replica_member){node, replica_incarnation(&n->incarnation, life)};
    for (int i = 0; i < core->config.count; i++)
        if (core->config.members[i].node == node) return core->config.members[i];
    return (struct replica_member){node, replica_incarnation(assigned, life)};
}

static bool drains(const struct image *im, int32_t node) {
    const struct image_node *n = image_node(im, node);
    return n && n->drained;
}

static void want_replicas(struct reconcile_input *in, const struct reactor *r, const struct replica *core, const struct image_topic *t,
                          const struct image_partition *p) {
    const struct image *im = reactor_image(r);
    for (int32_t i = 0; i < p->replica_count; i++) {
        if (p->at[i].removing) continue;
        if (drains(im, p->replicas[i]) || lacks_disk(r, p->replicas[i], t)) in->draining |= 1u << in->voters;
        in->voter[in->voters++] = member_of(im, core, p->replicas[i], p->at[i].life, &p->at[i].incarnation);
    }
}

/* The quorum; every other broker learns. */
static void want_quorum(struct reconcile_input *in, const struct reactor *r, const struct replica *core) {
    static const struct uuid none;
    const struct image *im = reactor_image(r);
    for (uint32_t i = 0; i < im->quorum_voter_count; i++) in->voter[in->voters++] = member_of(im, core, im->quorum_voters[i], 0, &none);
    for (uint32_t i = 0; i < in->voters; i++)
        if (drains(im, in->voter[i].node) || lacks_disk(r, in->voter[i].node, NULL)) in->draining |= 1u << i;
    for (uint32_t i = 0; i < im->node_count && in->learners < RECONCILE_LEARNERS_MAX; i++) {
        bool votes = false;
        for (uint32_t k = 0; k < in->voters; k++) votes = votes || in->voter[k].node == im->nodes[i].node;
        if (!votes) in->learner[in->learners++] = (struct replica_member){im->nodes[i].node, im->nodes[i].incarnation};
    }
}

/* Brokers for which the configuration has no room are sent the metadata log all the same. False: to be asked again. */
static bool observe(struct reconciler *c, uint64_t group, const struct image *im, const struct replica *core) {
    struct replica_member list[REPLICA_OBSERVERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < im->node_count && count < REPLICA_OBSERVERS_MAX; i++) {
        bool is_member = im->nodes[i].node == core->self.node;
        for (int k = 0; k < core->config.count; k++) is_member = is_member || core->config.members[k].node == im->nodes[i].node;
        if (!is_member) list[count++] = (struct replica_member){im->nodes[i].node, im->nodes[i].incarnation};
    }
    enum err err = partition_observe(c->reactor, group, list, count);
    return !err || err == ERR_CLOSED;
}

static void see(struct reconcile_input *in, struct reconciler *c, const struct replica *core) {
    const struct reactor *r = c->reactor;
    in->now = &core->config;
    in->self = core->self;
    in->prefers = reactor_config(r)->auto_leader_rebalance;
    in->self_drains = c->leaving || drains(reactor_image(r), core->self.node);
    for (int i = 0; i < core->config.count; i++)
        if (replica_keeps_up(core, &core->config.members[i], r->awake_ns)) in->in_sync |= 1u << i;
}

/* ---- one step ---------------------------------------------------------------------------------------------------------- */

static bool may_transfer(struct reconciler *c) {
    if (c->leaving) return true;
    if (c->reactor->now_ns - c->window_ns >= TRANSFERS_WINDOW_NS) {
        c->window_ns = c->reactor->now_ns;
        c->transfers = 0;
    }
    return c->transfers < TRANSFERS_A_WINDOW;
}

static void forget_waiting(struct reconciler *c, uint64_t group) {
    struct waiting *w;
    HASH_FIND(hh, c->preferred, &group, sizeof group, w);
    if (!w) return;
    HASH_DEL(c->preferred, w);
    free(w);
}

/* Whether its preferred replica, on `node`, has been in sync, and there, for long enough. */
static bool waited(struct reconciler *c, uint64_t group, int32_t node) {
    struct waiting *w;
    HASH_FIND(hh, c->preferred, &group, sizeof group, w);
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) return false; /* asked again */
        w->group = group;
        w->since_ns = c->reactor->now_ns;
        HASH_ADD(hh, c->preferred, group, sizeof w->group, w);
    }
    return c->reactor->now_ns - w->since_ns >= PREFER_AFTER_NS && peer_back_ns(c->reactor, node) >= PREFER_BACK_NS;
}

/* False: to be asked again. */
static bool hand_over(struct reconciler *c, uint64_t group, const struct replica_member *to) {
    if (!may_transfer(c)) return false;
    enum err err = partition_transfer(c->reactor, group, to);
    if (!err) {
        c->transfers++;
        forget_waiting(c, group);
    }
    return err == ERR_CLOSED;
}

static bool take(struct reconciler *c, uint64_t group, const struct reconcile_step *step) {
    switch (step->kind) {
    case RECONCILE_DONE: return true;
    case RECONCILE_WAIT: return false;
    case RECONCILE_CONFIG: return partition_reconfigure(c->reactor, group, &step->config) == ERR_CLOSED;
    case RECONCILE_TRANSFER: return hand_over(c, group, &step->to);
    case RECONCILE_PREFER: return waited(c, group, step->to.node) && hand_over(c, group, &step->to);
    }
    return true;
}

static bool reconcile(struct reconciler *c, uint64_t group, const struct replica *core, const struct image_topic *t, int32_t partition) {
    struct reconcile_input in = {0};
    struct reconcile_step step;
    see(&in, c, core);
    if (lacks_disk(c->reactor, core->self.node, t)) in.self_drains = true;
    if (t) want_replicas(&in, c->reactor, core, t, &t->partitions[partition]);
    else want_quorum(&in, c->reactor, core);
    for (uint32_t i = 0; i < in.voters; i++)
        if (peer_back_ns(c->reactor, in.voter[i].node) < PREFER_BACK_NS) in.recent |= 1u << i;
    if (!t) in.prefers = false;
    reconcile_plan(&in, &step);
    if (step.kind != RECONCILE_PREFER) forget_waiting(c, group);
    bool moving = t && image_partition_is_moving(&t->partitions[partition]);
    if (moving && reconcile_voters_are_wanted(&in) && replica_config_is_held(core)) report(c, t, partition);
    return take(c, group, &step) && !moving;
}

bool partition_reconcile(struct reactor *r, uint64_t group) {
    const struct replica *core = partition_replica(r, group);
    const struct image *im = reactor_image(r);
    uint32_t owner;
    int64_t end;
    if (!core || !r->reconciler || core->role != REPLICA_LEADER || !core->established) return true;
    if (!im) return false;
    if (group == controller_metadata_plid(r->broker->controller, &owner)) {
        if (im->quorum_voter_count > 0) {
            bool observed = observe(r->reconciler, group, im, core);
            return reconcile(r->reconciler, group, core, NULL, -1) && observed;
        }
        if (im->node_count > 0) write_quorum(r->reconciler, core);
        return im->node_count == 0; /* a broker alone has nobody to want */
    }
    const struct log *l = partition_log(r, group, &end);
    const struct image_topic *t = l ? image_topic_by_name(im, str_from(l->topic)) : NULL;
    const struct image_partition *p = t ? image_partition(t, l->partition) : NULL;
    if (!p || p->plid != group) return true; /* it is about to be deleted */
    return reconcile(r->reconciler, group, core, t, l->partition);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

struct reconciler *reconciler_new(struct reactor *r) {
    struct reconciler *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->reactor = r;
    timer_init(&c->timer, send_reports);
    timer_init(&c->disk_timer, disk_look);
    if (r->broker->config.peer_listens) timer_set(&r->timers, &c->disk_timer, r->now_ns + DISK_LOOK_NS);
    return c;
}

void reconciler_free(struct reconciler *c) {
    if (!c) return;
    struct waiting *w, *next;
    HASH_ITER(hh, c->preferred, w, next) {
        HASH_DEL(c->preferred, w);
        free(w);
    }
    timer_cancel(&c->reactor->timers, &c->disk_timer);
    free(c->packed);
    free(c);
}

void reconciler_leave(struct reconciler *c) {
    c->leaving = true;
    partition_unsettle_all(c->reactor);
}
