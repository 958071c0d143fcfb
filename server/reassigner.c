/* reassigner.c - what the controller begins by itself: internal topics follow the brokers that join, drained brokers lose what they
 * hold. A look each second, which costs nothing when there is nothing of both; a change at a time, of a bounded number of
 * partitions, and drains wait until what they began is done. */
#include <stdio.h>
#include <stdlib.h>
#include "server/internal_topics.h"
#include "server/placement.h"
#include "server/reassign.h"

#define LOOK_NS 1000000000
enum {
    PARTITIONS_A_CHANGE = 64,            /* reassignments that one change begins */
    MOVES_MAX = 64,                      /* that run because of drained brokers */
    PARTITIONS_A_LOOK = 20000            /* looked at in one turn */
};

struct reassigner {
    struct broker *broker;
    struct timer timer;
    struct controller_change change;
    bool away, more;                     /* a change is on its way; the next look should come soon */
    uint32_t cursor;                     /* topic by name where the next look for drained replicas begins */
    uint32_t moving, moving_so_far;      /* reassignments that the last / this round over all topics has seen */
    struct placement placement;
};

/* ---- internal topics ------------------------------------------------------------------------------------------- */

static int32_t target_of(const struct image_partition *p, int32_t *nodes) {
    int32_t n = 0;
    for (int32_t i = 0; i < p->replica_count; i++)
        if (!p->at[i].removing) nodes[n++] = p->replicas[i];
    return n;
}

/* New replicas alone would leave all partitions led by whom they were led by before: the preferred ones take turns. */
static void take_turns(int32_t *nodes, uint32_t count, uint32_t partition) {
    int32_t sorted[PLACEMENT_NODES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = i;
        for (; k > 0 && sorted[k - 1] > nodes[i]; k--) sorted[k] = sorted[k - 1];
        sorted[k] = nodes[i];
    }
    for (uint32_t i = 0; i < count; i++) nodes[i] = sorted[(i + partition) % count];
}

/* Returns how many reassignments it began. */
static uint32_t raise_topic(struct reassigner *s, struct controller_edit *e, const struct image_topic *t, uint32_t wanted) {
    uint32_t begun = 0, least = UINT32_MAX;
    bool moving = false;
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct image_partition *p = &t->partitions[i];
        int32_t nodes[PLACEMENT_NODES_MAX];
        uint32_t n = (uint32_t)target_of(p, nodes);
        bool moves = image_partition_is_moving(p);
        moving = moving || moves;
        least = MIN(least, n);
        if (n >= wanted || moves || begun == PARTITIONS_A_CHANGE) continue;
        uint32_t count = placement_extend(&s->placement, nodes, n, wanted);
        if (count == n || !reassign_fits(p, nodes, (int32_t)count)) continue;
        take_turns(nodes, count, (uint32_t)i);
        reassign_to(e, t, i, nodes, (int32_t)count);
        begun++;
    }
    /* Not before all of them have the replicas. */
    if (begun == 0 && !moving && t->partition_count > 0 && t->config.min_insync_replicas < internal_topics_in_sync((int32_t)least))
        internal_topics_set_in_sync(e, (struct str){t->name, t->name_len}, (int32_t)least);
    return begun;
}

static uint32_t raise_internal(struct reassigner *s, struct controller_edit *e, const struct image *im) {
    static const char *const topics[] = {"__consumer_offsets", "__transaction_state"};
    uint32_t begun = 0, wanted = MIN(s->placement.up, (uint32_t)INTERNAL_REPLICAS);
    for (size_t i = 0; i < ARRAY_LEN(topics) && begun == 0; i++) {
        const struct image_topic *t = image_topic_by_name(im, str_from(topics[i]));
        if (t) begun = raise_topic(s, e, t, wanted);
    }
    return begun;
}

/* ---- drained brokers -------------------------------------------------------------------------------------------- */

static bool is_drained(const struct image *im, int32_t node) {
    const struct image_node *n = image_node(im, node);
    return n && n->drained;
}
static bool any_drained(const struct image *im) {
    for (uint32_t i = 0; i < im->node_count; i++)
        if (im->nodes[i].drained) return true;
    return false;
}

/* The replicas without drained brokers, each replaced in its place; false: nothing to do, or nobody to replace one. */
static bool without_drained(struct reassigner *s, const struct image *im, const struct image_partition *p, int32_t *nodes, int32_t *count) {
    int32_t target[IMAGE_REPLICAS_MAX], n = target_of(p, target);
    uint32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        if (!is_drained(im, target[i])) nodes[kept++] = target[i];
    if (kept == (uint32_t)n) return false;
    *count = n;
    return placement_extend(&s->placement, nodes, kept, (uint32_t)n) == (uint32_t)n;
}

static uint32_t drain_topic(struct reassigner *s, struct controller_edit *e, const struct image *im, const struct image_topic *t, uint32_t room) {
    uint32_t begun = 0;
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct image_partition *p = &t->partitions[i];
        int32_t nodes[PLACEMENT_NODES_MAX], count = 0;
        bool moves = image_partition_is_moving(p);
        s->moving_so_far += moves;
        if (moves || begun >= room || !without_drained(s, im, p, nodes, &count) || !reassign_fits(p, nodes, count)) continue;
        reassign_to(e, t, i, nodes, count);
        begun++;
    }
    s->moving_so_far += begun;
    return begun;
}

static void drain(struct reassigner *s, struct controller_edit *e, const struct image *im) {
    int64_t seen = 0;
    uint32_t begun = 0;
    if (s->cursor >= im->topic_count) {  /* a round is over */
        s->cursor = 0;
        s->moving = s->moving_so_far;
        s->moving_so_far = 0;
    }
    while (s->cursor < im->topic_count && seen < PARTITIONS_A_LOOK && begun < PARTITIONS_A_CHANGE) {
        const struct image_topic *t = im->by_name[s->cursor++];
        uint32_t running = MAX(s->moving, s->moving_so_far), room = running < MOVES_MAX ? MIN(MOVES_MAX - running, PARTITIONS_A_CHANGE - begun) : 0;
        begun += drain_topic(s, e, im, t, room);
        seen += t->partition_count;
    }
    s->more = s->cursor < im->topic_count;
}

/* ---- the look ---------------------------------------------------------------------------------------------------- */

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct reassigner *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    placement_of_image(&s->placement, s->broker, im, im->metadata_end);
    if (s->placement.up > 0 && raise_internal(s, e, im) > 0) return;
    if (any_drained(im)) drain(s, e, im);
}

static void look_later(struct reassigner *s, int64_t after_ns) {
    struct reactor *r = &s->broker->reactors[0];
    timer_set(&r->timers, &s->timer, r->now_ns + after_ns);
}

static void done(struct controller_change *ch) {
    struct reassigner *s = ch->owner;
    s->away = false;
    look_later(s, !ch->err && s->more ? 10000000 : LOOK_NS);
}

/* Whether a change could have anything to do; cheap. */
static bool is_wanted(const struct reassigner *s, const struct image *im) {
    (void)s;
    return im->node_count > 0 && (any_drained(im) || image_topic_by_name(im, STR_LIT("__consumer_offsets")) ||
                                  image_topic_by_name(im, STR_LIT("__transaction_state")));
}

static void look(struct timer *t) {
    struct reassigner *s = CONTAINER_OF(t, struct reassigner, timer);
    const struct image *im = reactor_image(&s->broker->reactors[0]);
    if (atomic_load(&s->broker->stopping)) return;
    s->more = false;
    if (!im || !controller_is_active(s->broker) || !is_wanted(s, im)) {
        look_later(s, LOOK_NS);
        return;
    }
    s->away = true;
    s->change = (struct controller_change){.caller = &s->broker->reactors[0], .make = make, .done = done, .owner = s};
    controller_submit(s->broker->controller, &s->change);
}

struct reassigner *reassigner_new(struct broker *b) {
    struct reassigner *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->broker = b;
    timer_init(&s->timer, look);
    return s;
}
void reassigner_start(struct reassigner *s) { look_later(s, LOOK_NS); }
void reassigner_free(struct reassigner *s) { free(s); }
