/* consumers.c - programs that are members of one group of the consumer protocol (KIP-848): they join and say that they live by heartbeats, are given
 * partitions epoch by epoch, give up what others shall have (some take their time), work on what they own, and leave: with -1, static ones
 * with -2 for a while, or without a word. Their coordinator they find again when it moves, and ride through that.
 *
 * What must hold is in consumers_check.c and consumers_offsets.c, and here: whoever keeps its heartbeats coming is not put out. */
#include "base/assert.h"
#include "tests/sim/cluster/consumers.h"

#define BEAT_NS (80 * MS)
struct consumer consumers[CONSUMERS];
const struct str consumers_group = {"crew", 4};

static void again(struct consumer *p, int64_t most_ns) {
    timer_set(&p->c->timers, &p->timer, consumer_now(p) + 1 + (int64_t)consumer_draw(p, (uint64_t)most_ns));
}
static bool is_static(const struct consumer *p) { return p->instance[0] != 0; }

bool consumer_holds(const struct consumer *p, uint32_t place) {
    bool gives_up = consumer_now(p) >= p->give_up_ns;
    return set_has(&p->held, place) && (!gives_up || set_has(&p->told, place));
}

/* ---- out of the group --------------------------------------------------------------------------------- */

static void drop_all(struct consumer *p) {
    static const struct place_set none;
    p->epoch = p->past_epoch = 0;
    p->told = p->held = p->reported = p->fetched = none;
    p->give_up_ns = INT64_MAX;
    p->lease_ns = p->revoke_ns = 0;
    p->full = true;
}

static void come_back(struct consumer *p, int64_t wait_ns) {
    drop_all(p);
    p->subscription = p->index > 0 ? (enum subscription)consumer_draw(p, SUBSCRIPTIONS) : (enum subscription)consumer_draw(p, EVENTS + 1);
    p->return_ns = consumer_now(p) + 1 + (int64_t)consumer_draw(p, (uint64_t)wait_ns);
}

/* A member of another id, but a static one stays who it is. */
static void come_anew(struct consumer *p, int64_t wait_ns) {
    p->lives++;
    p->id[0] = 0;
    if (p->index > 0) snprintf(p->id, sizeof p->id, "consumer-%u-%u", p->index, p->lives);
    if (!is_static(p) || p->lives == 1) p->who = claims_identity();
    come_back(p, wait_ns);
}

static void put_out(struct consumer *p, int16_t error) {
    int64_t now = consumer_now(p);
    /* What it was told to give up it has not reported to be free, be it that its coordinator stood still. */
    bool slow = p->revoke_ns != 0 && now > p->revoke_ns + (REBALANCE_MS - 10) * MS;
    bool early = p->epoch > 0 && p->lease_ns > now && !slow && (error != KERR_FENCED_MEMBER_EPOCH || now > p->lost_ns + LATE_NS);
    if (early)
        cluster_violated(p->c, "13 consumer %u of group crew is put out (error %d) in epoch %d, %lld ms after a heartbeat that was answered", p->index, error, p->epoch,
                         (long long)((now - p->answered_ns) / MS));
    covered(p->c)->crew_put_out++;
    drop_all(p);
}

void consumer_judged(struct consumer *p, int16_t error) {
    if (error != KERR_NONE) cluster_trace(p->c, "consumer %u gets error %d", p->index, error);
    switch (error) {
    case KERR_NONE: return;
    case KERR_UNKNOWN_MEMBER_ID:
    case KERR_FENCED_MEMBER_EPOCH:
    case KERR_GROUP_ID_NOT_FOUND: put_out(p, error); return;
    case KERR_STALE_MEMBER_EPOCH: p->beat_ns = 0; return;
    case KERR_UNRELEASED_INSTANCE_ID:
        if (p->epoch != 0) cluster_violated(p->c, "13 the instance of consumer %u is another's in epoch %d", p->index, p->epoch);
        return;
    default:
        if (!kafka_error_retriable(error) && error != KERR_UNKNOWN_SERVER_ERROR) cluster_violated(p->c, "13 consumer %u of group crew gets error %d", p->index, error);
        consumer_lost(p);
    }
}

void consumer_lost(struct consumer *p) {
    p->coordinator = 0;
    p->full = true;
    p->lost_ns = consumer_now(p);
}

static void found(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    int32_t node = client_coordinator(call, r);
    p->asking = false;
    if (node < 0) return;
    p->coordinator = node;
    p->moved = true;
}

static void find(struct consumer *p) {
    p->asking = true;
    client_find_coordinator(&p->client, consumers_group, found, p);
}

/* ---- heartbeats ------------------------------------------------------------------------------------------ */

/* What it may own now; what it holds beyond that is given up at once or some time later, but before it would be put out for it. */
static void take(struct consumer *p, const struct k_consumer_group_heartbeat_response_assignment *a) {
    static const struct place_set none;
    bool more = false, less = false;
    p->told = none;
    for (int32_t t = 0; t < a->topic_partitions_n; t++)
        for (int32_t k = 0; k < a->topic_partitions[t].partitions_n; k++)
            set_add(&p->told, place_of(&a->topic_partitions[t].topic_id, a->topic_partitions[t].partitions[k]));
    for (uint32_t i = 0; i < PLACES / 64; i++) {
        less |= (p->held.w[i] & ~p->told.w[i]) != 0;
        more |= (p->told.w[i] & ~p->held.w[i]) != 0;
        p->fetched.w[i] &= p->held.w[i];
        p->held.w[i] |= p->told.w[i];
    }
    if (!less) p->give_up_ns = INT64_MAX;
    if (less && p->give_up_ns == INT64_MAX) {
        int64_t latest_ns = p->answered_ns + REBALANCE_MS * MS - 200 * MS;
        if (p->revoke_ns == 0) p->revoke_ns = p->sent_ns;
        p->give_up_ns = MIN(consumer_now(p) + (consumer_draw(p, 2) ? 0 : (int64_t)consumer_draw(p, 500) * MS), latest_ns);
        covered(p->c)->crew_revoked++;
    }
    if (more || less) cluster_trace(p->c, "consumer %u has %s in epoch %d", p->index, more ? less ? "other partitions" : "more partitions" : "fewer partitions", p->epoch);
}

static void beat_accepted(struct consumer *p, const struct k_consumer_group_heartbeat_response *a) {
    bool joined = p->epoch == 0;
    if (a->member_epoch < p->epoch)
        cluster_violated(p->c, "13 consumer %u of group crew falls from epoch %d to %d", p->index, p->epoch, a->member_epoch);
    if (a->member_id.len <= 0 || a->member_id.len >= MEMBER_ID_BYTES || (p->id[0] && !str_eq(a->member_id, str_from(p->id)))) {
        cluster_violated(p->c, "13 consumer %u of group crew becomes %.*s", p->index, MIN(a->member_id.len, 60), a->member_id.p);
        return;
    }
    memcpy(p->id, a->member_id.p, (size_t)a->member_id.len);
    p->id[a->member_id.len] = 0;
    if (a->member_epoch != p->epoch) {
        p->epoch = a->member_epoch;
        covered(p->c)->crew_epochs++;
        cluster_trace(p->c, "consumer %u (%s) is in epoch %d", p->index, p->id, p->epoch);
        claims_epoch(p, joined);
        p->moved = false;
    }
    if (joined && !a->assignment) cluster_violated(p->c, "13 consumer %u joins group crew and is not told its partitions", p->index);
    if (a->assignment) take(p, a->assignment);
    covered(p->c)->crew_rode_through += p->moved;
    p->moved = p->full = false;
    p->reported = p->sent;
    if (set_within(&p->reported, &p->told)) p->revoke_ns = 0;
    p->answered_ns = p->sent_ns;
    p->lease_ns = p->sent_ns + SESSION_NS;
    claims_check(p);
}

static void beaten(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    struct k_consumer_group_heartbeat_response a;
    p->asking = false;
    if (!r || k_consumer_group_heartbeat_response_decode(&a, r, call->version) != OK) {
        consumer_lost(p);
        return;
    }
    if (a.error_code == KERR_NONE) {
        p->told_subscription = (enum subscription)call->tag;
        beat_accepted(p, &a);
    }
    consumer_judged(p, a.error_code);
}

/* Owned partitions, the topics with all of theirs. */
static int32_t encode_set(const struct place_set *s, struct k_consumer_group_heartbeat_request_topic_partitions *topics, int32_t *partitions) {
    int32_t n = 0;
    for (uint32_t i = 0, used = 0; place_at(i); i++) {
        bool first = set_has(s, i);
        for (uint32_t k = 0; k < i; k++) first &= !(set_has(s, k) && uuid_eq(&place_at(k)->topic, &place_at(i)->topic));
        if (!first) continue;
        topics[n] = (struct k_consumer_group_heartbeat_request_topic_partitions){place_at(i)->topic, partitions + used, 0};
        for (uint32_t k = i; place_at(k); k++)
            if (set_has(s, k) && uuid_eq(&place_at(k)->topic, &place_at(i)->topic)) partitions[used++] = place_at(k)->partition, topics[n].partitions_n++;
        n++;
    }
    return n;
}

static void beat(struct consumer *p) {
    static const struct { const char *names[TOPICS], *regex, *assignor; } subscriptions[SUBSCRIPTIONS] = {
        [BOTH] = {{"orders", "events"}, "", NULL}, [EVENTS] = {{"events", NULL}, "", NULL}, [BOTH_BY_REGEX] = {{NULL, NULL}, "(orders|events)", NULL},
        [SOME_BY_REGEX] = {{"orders", NULL}, "(events|fleeting-[01].*)", NULL}, [BOTH_BY_RANGE] = {{"events", "orders"}, "", "range"}};
    struct k_consumer_group_heartbeat_request q;
    struct k_consumer_group_heartbeat_request_topic_partitions topics[PLACES];
    struct str names[TOPICS];
    int32_t partitions[PLACES];
    int16_t version = p->index > 0 ? 1 : 0;
    if (consumer_now(p) >= p->give_up_ns) {
        for (uint32_t i = 0; place_at(i); i++)
            if (set_has(&p->held, i) && !set_has(&p->told, i)) p->past_place = i, p->past_epoch = p->epoch;
        for (uint32_t i = 0; i < PLACES / 64; i++) p->held.w[i] &= p->told.w[i];
        p->give_up_ns = INT64_MAX;
    }
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = consumers_group;
    q.member_id = str_from(p->id);
    q.member_epoch = p->epoch;
    q.instance_id = is_static(p) ? str_from(p->instance) : STR_NULL;
    q.rack_id = q.subscribed_topic_regex = q.server_assignor = STR_NULL;
    if (p->full || p->subscription != p->told_subscription) {
        q.subscribed_topic_names = names;
        q.subscribed_topic_names_n = 0;
        for (int i = 0; i < TOPICS && subscriptions[p->subscription].names[i]; i++) names[q.subscribed_topic_names_n++] = str_from(subscriptions[p->subscription].names[i]);
        if (version > 0) q.subscribed_topic_regex = str_from(subscriptions[p->subscription].regex);
        if (subscriptions[p->subscription].assignor) q.server_assignor = str_from(subscriptions[p->subscription].assignor);
    }
    if (p->full) q.rebalance_timeout_ms = REBALANCE_MS;
    if (p->full || !set_equal(&p->held, &p->reported)) {
        q.topic_partitions = topics;
        q.topic_partitions_n = encode_set(&p->held, topics, partitions);
    }
    k_consumer_group_heartbeat_request_encode(&q, call_begin(&p->client, API_CONSUMER_GROUP_HEARTBEAT, version), version);
    p->asking = true;
    p->sent = p->held;
    p->sent_ns = consumer_now(p);
    p->newest = claims_newest();
    p->beat_ns = p->sent_ns + BEAT_NS;
    call_send(&p->client, p->coordinator, beaten, p, (uint64_t)p->subscription, 2 * SECOND);
}

/* ---- leaving ------------------------------------------------------------------------------------------------ */

static void left(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    struct k_consumer_group_heartbeat_response a;
    p->asking = false;
    bool known = r && k_consumer_group_heartbeat_response_decode(&a, r, call->version) == OK;
    if (known && a.error_code == KERR_FENCED_INSTANCE_ID) cluster_violated(p->c, "13 the instance of consumer %u is another's when it leaves", p->index);
    if (!known || a.error_code != KERR_NONE) p->coordinator = 0;
    else if (call->tag) covered(p->c)->crew_static_leaves++;
    else covered(p->c)->crew_leaves++;
    cluster_trace(p->c, "consumer %u has left%s%s", p->index, call->tag ? " for a while" : "", known ? "" : ", perhaps");
    /* Under its old id only when nothing of it can come late. */
    if (known && a.error_code == KERR_NONE && call->tag && consumer_now(p) > p->lost_ns + LATE_NS && consumer_draw(p, 2) == 0) come_back(p, 300 * MS);
    else come_anew(p, 300 * MS);
}

static void leave(struct consumer *p, bool for_a_while) {
    struct k_consumer_group_heartbeat_request q;
    k_consumer_group_heartbeat_request_init(&q);
    q.group_id = consumers_group;
    q.member_id = str_from(p->id);
    q.member_epoch = for_a_while ? -2 : -1;
    q.instance_id = is_static(p) ? str_from(p->instance) : STR_NULL;
    q.rack_id = q.subscribed_topic_regex = q.server_assignor = STR_NULL;
    int16_t version = p->index > 0 ? 1 : 0;
    drop_all(p);
    k_consumer_group_heartbeat_request_encode(&q, call_begin(&p->client, API_CONSUMER_GROUP_HEARTBEAT, version), version);
    p->asking = true;
    call_send(&p->client, p->coordinator, left, p, for_a_while, SECOND);
}

/* ---- what to do next ------------------------------------------------------------------------------------------ */

/* True: it does something out of the ordinary. */
static bool wanders(struct consumer *p) {
    switch (consumer_draw(p, 80)) {
    case 0: leave(p, false); return true;
    case 1: leave(p, is_static(p)); return true;
    case 2:
        cluster_trace(p->c, "consumer %u ends without a word", p->index);
        come_anew(p, 300 * MS);
        return true;
    case 3:
    case 4: p->subscription = p->index > 0 ? (enum subscription)consumer_draw(p, SUBSCRIPTIONS) : BOTH; return false;
    case 5:
    case 6: p->beat_ns = consumer_now(p) + (int64_t)consumer_draw(p, 2 * SECOND); return false; /* goes on with its work and says nothing */
    default: return false;
    }
}

static void rest(struct consumer *p) {
    p->subscription = BOTH;
    p->beat_ns = MIN(p->beat_ns, consumer_now(p) + BEAT_NS);
    if (consumer_draw(p, 2) == 0) beat(p);
    else if (!offsets_final(p) && !claims_settled()) claims_describe(p);
}

static void work(struct timer *timer) {
    struct consumer *p = CONTAINER_OF(timer, struct consumer, timer);
    again(p, 50 * MS);
    if (p->asking || consumer_now(p) < p->return_ns) return;
    if (uuid_is_zero(&p->client.topic_ids[TOPICS - 1]) || uuid_is_zero(&p->client.topic_ids[0])) client_refresh(&p->client);
    if (p->coordinator == 0) find(p);
    else if (p->epoch == 0 && !p->c->finishing) beat(p);
    else if (p->c->finishing) rest(p);
    else if (wanders(p)) return;
    else if (consumer_now(p) >= p->beat_ns || consumer_now(p) >= p->give_up_ns || p->subscription != p->told_subscription) beat(p);
    else if (consumer_draw(p, 40) == 0) claims_describe(p);
    else offsets_work(p);
}

void consumers_start(struct cluster *c) {
    claims_begin();
    offsets_begin();
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        struct consumer *p = &consumers[i];
        *p = (struct consumer){.c = c, .index = i, .lost_ns = -LATE_NS};
        client_init(&p->client, c, "consumer");
        if (i >= CONSUMERS / 2) snprintf(p->instance, sizeof p->instance, "instance-%u", i);
        timer_init(&p->timer, work);
        come_anew(p, 300 * MS);
        again(p, 300 * MS);
    }
}

const char *consumers_waiting(struct cluster *c) {
    (void)c;
    if (!claims_settled()) return "group crew does not come to rest with all partitions assigned";
    return offsets_waiting();
}
