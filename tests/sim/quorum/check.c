/* check.c - the invariants of docs/replication.md 12, by their numbers. */
#include <stdlib.h>
#include "base/assert.h"
#include "tests/sim/quorum/world.h"

static bool same(const struct record *a, const struct record *b) { return a->epoch == b->epoch && a->value == b->value; }

/* 10: the epoch table is well formed, and agrees with the records and with the core's own. */
static void check_table(struct world *w, struct node *n) {
    const struct sim_log *l = &n->log;
    const struct walk *walk = &n->replica.walk;
    int32_t epoch = l->base_epoch;
    int64_t at = l->start;
    uint32_t next = 0;
    for (uint32_t i = 0; i < l->marker_count; i++) {
        if (l->markers[i].epoch <= epoch) world_violated(w, "10 epochs do not increase");
        if (l->markers[i].start < at || l->markers[i].start > l->end) world_violated(w, "10 an epoch begins outside the log");
        epoch = l->markers[i].epoch;
        at = l->markers[i].start;
    }
    epoch = l->base_epoch;
    for (int64_t o = l->start; o < l->end; o++) {
        while (next < l->marker_count && l->markers[next].start <= o) epoch = l->markers[next++].epoch;
        if (l->records[o].epoch != epoch) {
            world_violated(w, "10 a record's epoch is not that of the table");
            return;
        }
    }
    if (!n->up) return;
    if (walk->start != l->start || walk->end != l->end || walk->base_epoch != l->base_epoch || walk->count != l->marker_count)
        world_violated(w, "10 the core and the log disagree");
}

/* 5, 7: what is committed never changes, and each replica agrees with it below its high watermark. */
static void check_committed(struct world *w, struct node *n) {
    const struct replica *r = &n->replica;
    if (!n->up) return;
    if (r->high_watermark > w->committed_end) world_violated(w, "5 a high watermark beyond what is committed");
    if (r->high_watermark < n->log.start) world_violated(w, "7 a high watermark before the log");
    if (r->high_watermark > n->log.end) world_violated(w, "7 a high watermark beyond the log");
    for (int64_t o = n->log.start; o < r->high_watermark && o < w->committed_end; o++)
        if (!same(&n->log.records[o], &w->committed[o])) world_violated(w, "5 a record below the high watermark is not the committed one");
}

/* 3: logs that hold the same marker are equal up to it, and as far as both go in its epoch. */
static void check_matching(struct world *w, const struct sim_log *a, const struct sim_log *b) {
    for (uint32_t i = 0, k = 0; i < a->marker_count; i++) {
        while (k < b->marker_count && b->markers[k].epoch < a->markers[i].epoch) k++;
        if (k == b->marker_count) return;
        if (b->markers[k].epoch != a->markers[i].epoch) continue;
        if (a->markers[i].start != b->markers[k].start) world_violated(w, "3 an epoch begins at two places");
        int64_t end_a = i + 1 < a->marker_count ? a->markers[i + 1].start : a->end;
        int64_t end_b = k + 1 < b->marker_count ? b->markers[k + 1].start : b->end;
        int64_t to = end_a < end_b ? end_a : end_b;
        for (int64_t o = a->start > b->start ? a->start : b->start; o < to; o++)
            if (!same(&a->records[o], &b->records[o])) world_violated(w, "3 logs with the same marker differ before it");
    }
}

/* 7: what the newest leader shows to clients does not go back when another takes over. */
static void check_published(struct world *w) {
    const struct node *newest = NULL;
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        const struct node *n = &w->nodes[i];
        if (n->up && n->replica.role == REPLICA_LEADER && (!newest || n->replica.epoch > newest->replica.epoch)) newest = n;
    }
    if (!newest || (!newest->replica.established && w->options.mutant != REPLICA_MUTANT_EXPOSE_HW_EARLY)) return;
    if (newest->replica.high_watermark < w->published) world_violated(w, "7 the newest leader shows less than one before it");
    w->published = newest->replica.high_watermark;
}

static bool newest_leader(const struct world *w, const struct node *n) {
    for (uint32_t i = 0; i < w->options.nodes; i++) {
        const struct node *x = &w->nodes[i];
        if (x->up && x->replica.role == REPLICA_LEADER && x->replica.epoch > n->replica.epoch) return false;
    }
    return true;
}

/* 15: a log start that a majority holds durably is that of every leader from then on. While members change or disks are lost, majorities are
 * not the same. */
static void check_starts(struct world *w) {
    if (w->options.features & (QUORUM_MEMBERS | QUORUM_WIPE)) return;
    for (uint32_t i = 0; i < w->options.voters; i++) {
        uint32_t as_high = 0;
        for (uint32_t k = 0; k < w->options.voters; k++) as_high += w->nodes[k].disk.log.start >= w->nodes[i].disk.log.start;
        if (as_high > w->options.voters / 2 && w->nodes[i].disk.log.start > w->deleted_to) w->deleted_to = w->nodes[i].disk.log.start;
    }
    for (uint32_t i = 0; i < w->options.voters; i++) {
        const struct node *n = &w->nodes[i];
        bool leads = n->up && n->replica.role == REPLICA_LEADER && n->replica.established && n->replica.peer_count > 0;
        if (leads && newest_leader(w, n) && n->log.start < w->deleted_to) world_violated(w, "15 a leader shows what was deleted");
    }
}

/* 16: a configuration that its leader believes to be on a majority is: another may follow it. Of an incarnation that is gone nobody can tell. */
static void check_config_held(struct world *w, const struct node *leader) {
    const struct replica_config *c = &leader->replica.config;
    uint32_t holders = 0;
    if (!leader->up || leader->replica.role != REPLICA_LEADER || !replica_config_is_held(&leader->replica)) return;
    for (int i = 0; i < c->voters; i++) {
        const struct node *n = &w->nodes[c->members[i].node];
        holders += !replica_member_eq(&n->self, &c->members[i]) || replica_config_compare(n->disk.config.id, c->id) >= 0;
    }
    if (holders < replica_config_majority(c)) world_violated(w, "16 a configuration counts as held that is not on a majority");
}

void check_all(struct world *w) {
    check_published(w);
    check_starts(w);
    for (uint32_t i = 0; i < w->options.nodes; i++) check_config_held(w, &w->nodes[i]);
    for (uint32_t i = 0; i < w->options.nodes && !w->violation; i++) {
        check_table(w, &w->nodes[i]);
        check_committed(w, &w->nodes[i]);
        for (uint32_t k = 0; k < i && !w->violation; k++) check_matching(w, &w->nodes[i].log, &w->nodes[k].log);
    }
}

/* 10: what a leader asks for is never less than what it knows the other to hold: else the answer would be less, and that means something. */
static void check_asked(struct world *w, const struct node *n, const struct replica_message *m) {
    for (uint32_t i = 0; i < n->replica.peer_count; i++) {
        const struct replica_peer *p = &n->replica.peers[i];
        if (replica_member_eq(&p->member, &m->to) && p->session == m->session && p->match.offset >= 0 && replica_position_compare(m->prev, p->match) < 0)
            world_violated(w, "10 a leader asks for less than was acknowledged");
    }
}

/* 8, 11: a vote or an acknowledgement was durably true when it left. */
void check_sent(struct world *w, struct node *n, const struct replica_message *m) {
    if (replica_member_eq(&m->to, &n->self)) world_violated(w, "8 somebody writes to itself");
    if (m->kind == REPLICA_VOTE_REPLY && m->ok) {
        const struct disk *d = &n->disk;
        if (d->epoch < m->epoch || (d->epoch == m->epoch && (!d->has_voted || !replica_member_eq(&d->voted, &m->to))))
            world_violated(w, "11 a vote left before it was durable");
        if (n->voted_epoch == m->epoch && !replica_member_eq(&n->voted_for, &m->to)) world_violated(w, "8 two votes in one epoch");
        n->voted_epoch = m->epoch;
        n->voted_for = m->to;
    }
    if (m->kind == REPLICA_APPEND_REPLY && m->ok) {
        if (n->disk.epoch < m->epoch) world_violated(w, "11 an acknowledgement left before its epoch was durable");
        if (replica_config_compare(n->disk.config.id, m->config.id) < 0) world_violated(w, "11 an acknowledgement left before its configuration was durable");
        if (!sim_log_contains(&n->disk.log, m->match) || m->match.offset > n->disk.log.end)
            world_violated(w, "11 an acknowledgement left before what it acknowledges was durable");
    }
    if ((m->kind == REPLICA_APPEND || m->kind == REPLICA_INSTALL_START) && w->options.mutant == REPLICA_MUTANT_NONE) check_asked(w, n, m);
}

/* A read is answered with all that was committed anywhere when it came. */
void check_reads(struct world *w, struct node *n, uint32_t round) {
    uint32_t left = 0;
    if (n->replica.role != REPLICA_LEADER || !n->replica.established) world_violated(w, "14 reads are answered by who does not lead");
    for (uint32_t i = 0; i < n->read_count; i++) {
        if ((int32_t)(n->reads[i].round - round) > 0) {
            n->reads[left++] = n->reads[i];
            continue;
        }
        w->coverage->reads++;
        if (n->replica.high_watermark < n->reads[i].committed) world_violated(w, "14 a read misses what was committed when it came");
    }
    n->read_count = left;
}

/* 10: only who lost what it had acknowledged is said to have. With other rules left out it may be true, and is not what is to be noticed. */
void check_went_back(struct world *w, const struct replica_member *m) {
    if (w->options.mutant != REPLICA_MUTANT_NONE && w->options.mutant != REPLICA_MUTANT_BACK_IN_ANY_ROUND) return;
    if (!w->nodes[m->node].rolled_back) world_violated(w, "10 a disk that is as it was is said to have gone back");
}

/* 9: no truncation below the own high watermark, and none drops what is committed. */
void check_truncation(struct world *w, const struct node *n, struct replica_position p) {
    if (p.offset < n->high_watermark || p.offset < n->log.start) world_violated(w, "9 a truncation below the high watermark");
    for (int64_t o = p.offset; o < n->log.end && o < w->committed_end; o++)
        if (same(&n->log.records[o], &w->committed[o])) world_violated(w, "9 a committed record was truncated");
}

/* 1, 4, 11: one leader for each epoch, by votes that are durable, and it has everything that was committed in those before. Who finds out late that it had won leads in an
 * epoch that is over, and need not have what was committed since. */
void check_leader(struct world *w, struct node *n) {
    int32_t epoch = n->replica.epoch;
    ASSERT(epoch < EPOCHS_SEEN_MAX);
    if (w->leaders[epoch].node >= 0 && !replica_member_eq(&w->leaders[epoch], &n->self)) world_violated(w, "1 two leaders in one epoch");
    w->leaders[epoch] = n->self;
    const struct disk *d = &n->disk;
    bool alone = n->replica.peer_count == 0; /* vote and marker are one change, and nobody hears of them before */
    if (!alone && (d->epoch != epoch || !d->has_voted || !replica_member_eq(&d->voted, &n->self))) world_violated(w, "11 a leader's own vote is not durable");
    int64_t needed = w->committed_end;
    while (needed > 0 && w->committed_in[needed - 1] > epoch) needed--;
    if (n->log.end < needed) world_violated(w, "4 a leader's log ends before what is committed");
    for (int64_t o = n->log.start; o < needed && o < n->log.end; o++)
        if (!same(&n->log.records[o], &w->committed[o])) world_violated(w, "4 a leader lacks a committed record");
}

/* 6: what a leader commits is durable on a majority of its voters. */
static void check_quorum(struct world *w, const struct node *leader, struct replica_position p) {
    const struct replica_config *c = &leader->replica.config;
    uint32_t holders = 0;
    for (int i = 0; i < c->voters; i++) {
        for (uint32_t k = 0; k < w->options.nodes; k++) {
            struct node *n = &w->nodes[k];
            if (!replica_member_eq(&n->self, &c->members[i])) continue;
            holders += sim_log_contains(&n->disk.log, p) && n->disk.log.end >= p.offset;
        }
        bool lives = false; /* an incarnation that is gone held it, as far as we can tell */
        for (uint32_t k = 0; k < w->options.nodes; k++) lives |= replica_member_eq(&w->nodes[k].self, &c->members[i]);
        holders += !lives;
    }
    if (holders < replica_config_majority(c)) world_violated(w, "6 committed without a durable majority");
}

void check_high_watermark(struct world *w, struct node *n, int64_t offset) {
    if (offset < n->high_watermark) world_violated(w, "7 a high watermark went back");
    n->high_watermark = offset;
    if (n->replica.role != REPLICA_LEADER) return;
    check_quorum(w, n, (struct replica_position){n->replica.epoch, offset});
    for (int64_t o = n->log.start; o < offset; o++) {
        if (o < w->committed_end) {
            if (!same(&n->log.records[o], &w->committed[o])) world_violated(w, "5 a committed record changed");
        } else {
            w->committed[o] = n->log.records[o];
            w->committed_in[o] = n->replica.epoch;
            w->committed_end = o + 1;
        }
    }
    w->coverage->commits++;
}
