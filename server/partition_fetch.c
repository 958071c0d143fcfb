/* partition_fetch.c - reads: plan, wait, read, and the way home of lent bytes.
 *
 * A group is the part of one fetch that lives on one reactor. It travels between the caller's and
 * the owner's thread; between `away` being set and cleared only the owner touches it. */
#include <stdlib.h>
#include "base/assert.h"
#include "server/api_errors.h"
#include "server/partition_impl.h"

enum command { COMMAND_PLAN, COMMAND_WATCH, COMMAND_READ };

/* ---- home ------------------------------------------------------------------------------------ */

static void group_home(struct mail *m) {
    struct fetch_group *g = CONTAINER_OF(m, struct fetch_group, mail);
    g->away = false;
    if (!g->cancel_away) g->home(g);
}

/* The owner is done with the group. */
static void send_home(struct fetch_group *g) {
    if (g->caller == g->owner) {
        g->away = false;
        g->home(g);
        return;
    }
    g->mail.deliver = group_home;
    mailbox_post(&g->caller->mailbox, &g->mail);
}

/* ---- plan --------------------------------------------------------------------------------------- */

/* A follower answers who asks for that, with what it knows to be committed: it has heard from this epoch's leader (KIP-392). */
static int16_t replica_error(const struct partition *p, const struct fetch_part *part) {
    if (!partition_is_led(p) && !(part->from_follower && p->started && p->replica.has_leader)) return KERR_NOT_LEADER_OR_FOLLOWER;
    int16_t error = partition_check_epoch(p, part->current_leader_epoch);
    /* A new leader learns within a moment what of its log is committed. */
    return !error && partition_is_led(p) && !partition_knows_committed(p) ? KERR_NOT_LEADER_OR_FOLLOWER : error;
}

static int16_t find_readable(struct fetch_group *g, const struct fetch_part *part, struct partition **out) {
    if (g->owner->partitions->stop_error) return g->owner->partitions->stop_error;
    struct partition *p = partition_find(g->owner, part->plid);
    if (!p) return KERR_NOT_LEADER_OR_FOLLOWER;
    *out = p;
    return replica_error(p, part);
}

/* A follower may not know yet of what its leader has told the reader (KIP-392). */
static int16_t offset_error(const struct partition *p, int64_t offset) {
    if (offset < partition_begin(p) || (offset > p->log->end && partition_is_led(p))) return KERR_OFFSET_OUT_OF_RANGE;
    return offset > partition_bound(p) && !partition_is_led(p) ? KERR_OFFSET_NOT_AVAILABLE : KERR_NONE;
}

/* KIP-320: what the reader last saw must be in this log, else it learns where they part. */
static int16_t check_divergence(const struct partition *p, struct fetch_part *part) {
    part->diverging_epoch = -1;
    part->diverging_end = -1;
    if (part->last_fetched_epoch < 0) return KERR_NONE;
    int32_t epoch;
    int64_t end;
    epochs_end_of(&p->log->epochs, part->last_fetched_epoch, partition_begin(p), p->log->end, &epoch, &end);
    if (epoch < 0 || end < 0) return KERR_OFFSET_OUT_OF_RANGE;
    if (epoch < part->last_fetched_epoch || end < part->offset) {
        part->diverging_epoch = epoch;
        part->diverging_end = end;
    }
    return KERR_NONE;
}

static void plan_part(struct fetch_group *g, struct fetch_part *part) {
    struct partition *p = NULL;
    part->high_watermark = part->log_start = part->begins = -1;
    part->available_bytes = 0;
    part->leader_epoch = -1;
    part->error = find_readable(g, part, &p);
    part->partition = p;
    if (p) part->leader_epoch = partition_shown_epoch(p);
    if (part->error) return;
    part->error = check_divergence(p, part);
    if (!part->error) part->error = offset_error(p, part->offset);
    if (part->error == KERR_OFFSET_OUT_OF_RANGE) part->begins = partition_begin(p);
    if (part->error) return;
    part->high_watermark = partition_bound(p);
    part->log_start = partition_begin(p);
    if (part->diverging_epoch >= 0 || part->offset >= part->high_watermark) return;
    uint64_t cap = (uint64_t)MAX(part->max_bytes, 0);
    part->available_bytes = MAX(log_bytes_between(p->log, part->offset, part->high_watermark, cap), (uint64_t)1);
}

/* Who should rather be asked. */
static void look_elsewhere(const struct fetch_group *g, struct fetch_part *part) {
    part->leader = partition_leader_hint(g->owner, part->plid, part->error, &part->leader_epoch);
    part->preferred = part->error ? -1 : partition_preferred_replica(g->owner, part->plid, g->rack);
    if (part->preferred >= 0) part->available_bytes = 0;
}

static void sum_up(struct fetch_group *g) {
    g->planned_bytes = 0;
    g->planned_error = false;
    for (uint32_t i = 0; i < g->part_count; i++) {
        const struct fetch_part *part = g->parts[i];
        g->planned_bytes += part->available_bytes;
        if (part->error || part->diverging_epoch >= 0 || part->preferred >= 0) g->planned_error = true;
    }
}

static void plan(struct fetch_group *g) {
    for (uint32_t i = 0; i < g->part_count; i++) {
        plan_part(g, g->parts[i]);
        look_elsewhere(g, g->parts[i]);
    }
    sum_up(g);
    g->planned_moves = g->owner->partitions->moves;
    g->planned = true;
}

/* Nothing that a plan depends on has changed since: no partition moved or went away. */
static bool plan_is_fresh(const struct fetch_group *g) {
    return g->planned && g->planned_moves == g->owner->partitions->moves;
}

/* ---- watch ---------------------------------------------------------------------------------------- */

static bool satisfied(const struct fetch_group *g) { return g->planned_error || g->planned_bytes >= g->wanted_bytes; }

static void unwatch(struct fetch_group *g) {
    g->watching = false;
    for (uint32_t i = 0; i < g->part_count; i++) list_remove(&g->parts[i]->watch);
}

static void watch(struct fetch_group *g) {
    for (uint32_t i = 0; i < g->part_count; i++) {
        list_init(&g->parts[i]->watch);
        g->parts[i]->group = g;
    }
    if (!plan_is_fresh(g)) plan(g);
    if (satisfied(g)) {
        send_home(g);
        return;
    }
    g->watching = true;
    for (uint32_t i = 0; i < g->part_count; i++) {
        struct partition *p = g->parts[i]->partition;
        if (p) list_push_back(&p->watchers, &g->parts[i]->watch);
    }
}

void partition_wake_watchers(struct partition *p) {
    struct list woken;
    list_init(&woken);
    struct list *node;
    p->map->moves++;
    while ((node = list_pop_front(&p->watchers))) list_push_back(&woken, node);
    while ((node = list_pop_front(&woken))) {
        struct fetch_part *part = LIST_ENTRY(node, struct fetch_part, watch);
        struct fetch_group *g = part->group;
        uint64_t before = part->available_bytes;
        plan_part(g, part);
        g->planned_bytes += part->available_bytes - before;
        if (part->error || part->diverging_epoch >= 0) g->planned_error = true;
        if (satisfied(g)) {
            unwatch(g);
            send_home(g);
        } else {
            list_push_back(&p->watchers, node);
        }
    }
}

/* ---- read ------------------------------------------------------------------------------------------ */

struct fetch_loan {
    struct buf buf;              /* of the caller's reactor: no bytes, only its life counts */
    struct reactor *owner, *caller;
    struct mail mail;
    uint32_t count;
    struct log_read reads[];
};

struct buf *fetch_loan_buf(struct fetch_loan *l) { return &l->buf; }

static void loan_end(struct mail *m) {
    struct fetch_loan *l = CONTAINER_OF(m, struct fetch_loan, mail);
    for (uint32_t i = 0; i < l->count; i++) log_read_release(&l->reads[i]);
    free(l);
}

static void loan_release(struct buf *b) {
    struct fetch_loan *l = CONTAINER_OF(b, struct fetch_loan, buf);
    if (l->caller == l->owner) {
        loan_end(&l->mail);
        return;
    }
    l->mail.deliver = loan_end;
    mailbox_post(&l->owner->mailbox, &l->mail);
}

static int16_t read_error(enum err err) {
    switch (err) {
    case ERR_CORRUPT: return KERR_KAFKA_STORAGE_ERROR; /* kept, but not served */
    default: return api_error(err);
    }
}

static void read_finished(struct fetch_part *part, struct log_read *r) {
    struct fetch_group *g = part->group;
    part->error = read_error(r->err);
    if (part->error) part->high_watermark = part->log_start = -1;
    else part->read = r;
    if (--g->reads_left == 0) send_home(g);
}
static void read_done(struct log_read *r) { read_finished(r->owner, r); }

static void start_read(struct fetch_group *g, struct fetch_part *part) {
    struct partition *p = NULL;
    struct log_read *r = &g->loan->reads[g->loan->count];
    part->error = find_readable(g, part, &p);
    if (part->error) {
        g->reads_left--;
        return;
    }
    g->loan->count++;
    part->high_watermark = partition_bound(p);
    part->log_start = partition_begin(p);
    *r = (struct log_read){
        .offset = part->offset, .max_offset = part->high_watermark, .max_bytes = part->budget_bytes,
        .min_one = part->min_one, .skip_empty = true, .done = read_done, .owner = part,
    };
    if (log_read(p->log, r)) {
        part->error = read_error(r->err);
        if (part->error) part->high_watermark = part->log_start = -1;
        else part->read = r;
        g->reads_left--;
    }
}

static void read_parts(struct fetch_group *g) {
    uint32_t wanted = 0;
    for (uint32_t i = 0; i < g->part_count; i++) wanted += g->parts[i]->budget_bytes > 0;
    g->loan = NULL;
    for (uint32_t i = 0; i < g->part_count; i++) {
        g->parts[i]->read = NULL;
        g->parts[i]->group = g;
    }
    if (wanted > 0) g->loan = malloc(sizeof *g->loan + wanted * sizeof g->loan->reads[0]);
    if (!g->loan) {
        for (uint32_t i = 0; wanted > 0 && i < g->part_count; i++)
            if (g->parts[i]->budget_bytes > 0) g->parts[i]->error = KERR_KAFKA_STORAGE_ERROR;
        send_home(g);
        return;
    }
    *g->loan = (struct fetch_loan){.buf = {.refs = 1, .release = loan_release}, .owner = g->owner, .caller = g->caller};
    g->reads_left = wanted + 1; /* the last one is this function's own */
    for (uint32_t i = 0; i < g->part_count; i++)
        if (g->parts[i]->budget_bytes > 0) start_read(g, g->parts[i]);
    if (--g->reads_left == 0) send_home(g);
}

/* ---- commands ----------------------------------------------------------------------------------- */

static void execute(struct fetch_group *g) {
    switch ((enum command)g->command) {
    case COMMAND_PLAN:
        if (!plan_is_fresh(g)) plan(g);
        send_home(g);
        break;
    case COMMAND_WATCH: watch(g); break;
    case COMMAND_READ: read_parts(g); break;
    }
}
static void group_arrive(struct mail *m) { execute(CONTAINER_OF(m, struct fetch_group, mail)); }

static void command(struct fetch_group *g, enum command c) {
    ASSERT(!g->away && !g->cancel_away);
    g->command = c;
    g->away = true;
    g->watching = false;
    if (g->caller == g->owner) {
        execute(g);
        return;
    }
    g->mail.deliver = group_arrive;
    mailbox_post(&g->owner->mailbox, &g->mail);
}
void fetch_group_plan(struct fetch_group *g) { command(g, COMMAND_PLAN); }
void fetch_group_watch(struct fetch_group *g) { command(g, COMMAND_WATCH); }
void fetch_group_read(struct fetch_group *g) { command(g, COMMAND_READ); }

static void cancel_home(struct mail *m) {
    struct fetch_group *g = CONTAINER_OF(m, struct fetch_group, cancel_mail);
    g->cancel_away = false;
    if (!g->away) g->home(g);
}

static void cancel_arrive(struct mail *m) {
    struct fetch_group *g = CONTAINER_OF(m, struct fetch_group, cancel_mail);
    if (g->watching) {
        unwatch(g);
        send_home(g);
    }
    g->cancel_mail.deliver = cancel_home;
    mailbox_post(&g->caller->mailbox, &g->cancel_mail);
}

void fetch_group_cancel(struct fetch_group *g) {
    if (!g->away || g->cancel_away) return;
    if (g->caller == g->owner) {
        if (!g->watching) return;
        unwatch(g);
        send_home(g);
        return;
    }
    g->cancel_away = true;
    g->cancel_mail.deliver = cancel_arrive;
    mailbox_post(&g->owner->mailbox, &g->cancel_mail);
}
