/* consumers_offsets.c - what members of group crew do with what they own: they ask how far the group has come, read on from there, and commit
 * how far they have come, under their member epoch.
 *
 * What was acknowledged as committed is found by whoever asks afterwards, or something later. A commit whose answer was lost may be carried
 * out late and set the group back, but only while its member owns the partition: once another one does, in a later epoch, it is
 * refused, and an answer that says otherwise to a commit that left after that is wrong. */
#include "base/assert.h"
#include "proto/record_batch.h"
#include "tests/sim/cluster/consumers.h"

static struct { int64_t tried, acked, late, late_until_ns; bool asked; /* after the faults */ } commits[PLACES];

void offsets_begin(void) {
    for (uint32_t i = 0; i < PLACES; i++) commits[i] = (typeof(commits[i])){.tried = -1, .acked = -1};
}

static const char *name_of(uint32_t place) { return topic_name((uint32_t)place_at(place)->known); }
static int32_t partition_of(uint32_t place) { return place_at(place)->partition; }

/* The lowest of what may be found from now on: what left before the change of owner may have come last. */
void offsets_superseded(const struct consumer *p, uint32_t place) {
    int64_t *acked = &commits[place].acked;
    if (consumer_now(p) < commits[place].late_until_ns) *acked = MIN(*acked, commits[place].late);
    commits[place].late_until_ns = 0;
    for (uint32_t i = 0; i < CONSUMERS; i++) {
        const struct consumer *q = &consumers[i];
        if (q->committing && q->place == place && q != p) *acked = MIN(*acked, q->position[place]);
    }
}

/* ---- committing ------------------------------------------------------------------------------------ */

static bool is_refusal(int16_t error) {
    return error == KERR_STALE_MEMBER_EPOCH || error == KERR_UNKNOWN_MEMBER_ID || error == KERR_FENCED_MEMBER_EPOCH || error == KERR_GROUP_ID_NOT_FOUND;
}

static void committed(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    struct k_offset_commit_response a;
    int64_t value = (int64_t)call->tag, now = consumer_now(p);
    p->asking = p->committing = false;
    bool belated = p->belated;
    p->belated = false;
    bool known = r && k_offset_commit_response_decode(&a, r, call->version) == OK && a.topics_n == 1 && a.topics[0].partitions_n == 1;
    int16_t error = known ? a.topics[0].partitions[0].error_code : KERR_NETWORK_EXCEPTION;
    uint32_t k = p->place;
    bool superseded = claims_superseded(k, p->epoch, p->who);
    if (known) consumer_judged(p, error);
    else consumer_lost(p);
    if (belated) {
        covered(p->c)->crew_refused += error == KERR_STALE_MEMBER_EPOCH;
        if (error == KERR_NONE)
            cluster_violated(p->c, "12 a commit of consumer %u for %s-%d in an earlier epoch is taken when it has given that up", p->index, name_of(k), partition_of(k));
        return;
    }
    if (is_refusal(error)) {
        covered(p->c)->crew_refused++;
        p->fetched.w[k / 64] &= ~(UINT64_C(1) << (k % 64));
        return;
    }
    if (error != KERR_NONE) {
        p->fetched.w[k / 64] &= ~(UINT64_C(1) << (k % 64)); /* what became of it is asked first */
        if (superseded) return;
        if (now >= commits[k].late_until_ns || commits[k].late > value) commits[k].late = value;
        commits[k].late_until_ns = now + LATE_NS;
        return;
    }
    if (p->superseded)
        cluster_violated(p->c, "12 a commit of consumer %u for %s-%d in epoch %d is taken when another one of group crew had it in a later epoch", p->index, name_of(k),
                         partition_of(k), p->epoch);
    covered(p->c)->crew_commits++;
    cluster_trace(p->c, "consumer %u has committed %lld for %s-%d in epoch %d", p->index, (long long)value, name_of(k), partition_of(k), p->epoch);
    claims_committed();
    if (value > commits[k].acked && !superseded) commits[k].acked = value;
}

static void commit(struct consumer *p, uint32_t k, int32_t epoch) {
    struct k_offset_commit_request q;
    int64_t offset = p->position[k];
    k_offset_commit_request_init(&q);
    q.group_id = consumers_group;
    q.generation_id_or_member_epoch = epoch;
    q.member_id = str_from(p->id);
    q.group_instance_id = p->instance[0] ? str_from(p->instance) : STR_NULL;
    p->belated = epoch != p->epoch;
    if (!p->belated && offset > commits[k].tried) commits[k].tried = offset;
    request_commit(&p->client, &q, 9, name_of(k), partition_of(k), offset);
    p->asking = true;
    p->committing = !p->belated;
    p->place = k;
    p->superseded = claims_superseded(k, p->epoch, p->who);
    call_send(&p->client, p->coordinator, committed, p, (uint64_t)offset, 3 * SECOND);
}

/* ---- how far the group has come ---------------------------------------------------------------------- */

static void looked(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    int16_t error;
    int64_t offset;
    p->asking = false;
    if (!committed_told(call, r, &error, &offset)) {
        consumer_lost(p);
        return;
    }
    uint32_t k = p->place;
    if (offset != OFFSET_UNTOLD) {
        if (offset < p->at_least || offset > commits[k].tried)
            cluster_violated(p->c, "12 group crew has committed %lld for %s-%d (%lld tried) and consumer %u finds %lld", (long long)p->at_least, name_of(k), partition_of(k),
                             (long long)commits[k].tried, p->index, (long long)offset);
        p->position[k] = MAX(offset, 0);
        set_add(&p->fetched, k);
        commits[k].asked |= call->tag;
        covered(p->c)->commit_checks++;
    }
    consumer_judged(p, error);
}

static void look(struct consumer *p, uint32_t k, bool as_member) {
    struct k_offset_fetch_request_groups g;
    k_offset_fetch_request_groups_init(&g);
    g.group_id = consumers_group;
    g.member_id = as_member ? str_from(p->id) : STR_NULL;
    g.member_epoch = as_member ? p->epoch : -1;
    request_committed(&p->client, &g, 9, name_of(k), partition_of(k));
    p->asking = true;
    p->place = k;
    bool late = consumer_now(p) < commits[k].late_until_ns;
    p->at_least = late ? MIN(commits[k].acked, commits[k].late) : commits[k].acked;
    call_send(&p->client, p->coordinator, looked, p, !as_member, 3 * SECOND);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static void fetched(struct call *call, struct wire_reader *r) {
    struct consumer *p = call->owner;
    struct k_fetch_response a;
    uint32_t k = p->place;
    p->asking = false;
    if (!r || k_fetch_response_decode(&a, r, call->version) != OK || a.error_code != KERR_NONE || a.responses_n != 1 || a.responses[0].partitions_n != 1) {
        client_refresh(&p->client);
        return;
    }
    const struct k_fetch_response_responses_partitions *x = &a.responses[0].partitions[0];
    uint32_t topic = (uint32_t)place_at(k)->known, partition = (uint32_t)partition_of(k);
    if (x->error_code == KERR_OFFSET_OUT_OF_RANGE && history_may_be_deleted(p->c->history, topic, partition, p->position[k]))
        p->position[k] = history_deleting_to(p->c->history, topic, partition);
    else if (x->error_code == KERR_OFFSET_OUT_OF_RANGE)
        cluster_violated(p->c, "12 consumer %u cannot read %s-%d from offset %lld, to which the group has come (log %lld to %lld)", p->index, name_of(k), partition_of(k),
                         (long long)p->position[k], (long long)x->log_start_offset, (long long)x->high_watermark);
    if (x->error_code != KERR_NONE) {
        client_refresh(&p->client);
        return;
    }
    struct batch_header h;
    size_t left = x->records.len > 0 ? (size_t)x->records.len : 0;
    for (const uint8_t *at = x->records.p; left > 0 && batch_parse(at, left, &h) == OK; at += h.total_bytes, left -= h.total_bytes)
        p->position[k] = MAX(p->position[k], batch_last_offset(&h) + 1);
}

static void fetch(struct consumer *p, uint32_t k) {
    struct k_fetch_request_topics_partitions x;
    const struct topic_place *at = &p->client.places[place_at(k)->known][partition_of(k)];
    if (at->leader == 0) {
        client_refresh(&p->client);
        return;
    }
    k_fetch_request_topics_partitions_init(&x);
    int32_t wait_ms = (int32_t)consumer_draw(p, 50);
    x.partition = partition_of(k);
    x.current_leader_epoch = at->leader_epoch;
    x.fetch_offset = p->position[k];
    x.partition_max_bytes = 1024 + (int32_t)consumer_draw(p, 16384);
    request_fetch(&p->client, name_of(k), &x, wait_ms, 16384);
    p->asking = true;
    call_send(&p->client, at->leader, fetched, p, 0, SECOND);
}

/* ---- what to do next ------------------------------------------------------------------------------------- */

/* What was still to be committed when it was given up comes late, as with clients that do not wait for it: the coordinator, which has heard
 * that it is given up, refuses it. */
static bool commits_belatedly(struct consumer *p) {
    int32_t epoch = p->past_epoch;
    if (epoch == 0 || p->epoch <= epoch || place_at(p->past_place)->known < 0 || consumer_holds(p, p->past_place) || set_has(&p->told, p->past_place)) return false;
    p->past_epoch = 0;
    commit(p, p->past_place, epoch);
    return true;
}

void offsets_work(struct consumer *p) {
    uint32_t seen = 0;
    if (commits_belatedly(p)) return;
    for (uint32_t i = 0; place_at(i); i++) /* one that it holds, each as likely */
        if (place_at(i)->known >= 0 && consumer_holds(p, i) && consumer_draw(p, ++seen) == 0) p->place = i;
    if (seen == 0) return;
    if (!set_has(&p->fetched, p->place)) look(p, p->place, true);
    else if (consumer_draw(p, 2) == 0) fetch(p, p->place);
    else commit(p, p->place, p->epoch);
}

static uint32_t next_final(void) {
    uint32_t i = 0;
    while (place_at(i) && (place_at(i)->known < 0 || commits[i].acked < 0 || commits[i].asked)) i++;
    return i;
}

bool offsets_final(struct consumer *p) {
    uint32_t i = next_final();
    if (!place_at(i)) return false;
    look(p, i, false);
    return true;
}

const char *offsets_waiting(void) { return place_at(next_final()) ? "the coordinator of group crew does not answer" : NULL; }
