#include "server/reassign.h"
#include "base/assert.h"

/* ---- records ------------------------------------------------------------------------------------------------------ */

static bool names(const int32_t *nodes, int32_t count, int32_t node) {
    for (int32_t i = 0; i < count; i++)
        if (nodes[i] == node) return true;
    return false;
}

bool reassign_fits(const struct image_partition *p, const int32_t *nodes, int32_t count) {
    int32_t all = count;
    for (int32_t i = 0; i < p->replica_count; i++) all += !names(nodes, count, p->replicas[i]);
    return all <= IMAGE_REPLICAS_MAX;
}

static bool same_replicas(const struct image_partition *p, const struct image_replica *at, int32_t count) {
    bool same = p->replica_count == count;
    for (int32_t i = 0; same && i < count; i++)
        same = p->at[i].node == at[i].node && p->at[i].life == at[i].life && p->at[i].adding == at[i].adding &&
               p->at[i].removing == at[i].removing;
    return same;
}

/* Who comes anew: with the incarnation of now, and a life that nobody had. */
static struct image_replica newcomer(const struct controller_edit *e, int32_t node, uint32_t life) {
    const struct image_node *n = image_node(controller_edit_image(e), node);
    struct image_replica at = {.node = node, .life = life, .adding = true};
    if (n) at.incarnation = n->incarnation;
    return at;
}

void reassign_to(struct controller_edit *e, const struct image_topic *t, int32_t partition, const int32_t *nodes, int32_t count) {
    const struct image_partition *p = image_partition(t, partition);
    struct image_replica at[IMAGE_REPLICAS_MAX];
    int32_t n = 0;
    uint32_t life = p->lives;
    ASSERT(count >= 1 && reassign_fits(p, nodes, count));
    for (int32_t i = 0; i < count; i++) {
        const struct image_replica *was = image_replica_of(p, nodes[i]);
        at[n] = was ? *was : newcomer(e, nodes[i], life++);
        at[n++].removing = false;
    }
    for (int32_t i = 0; i < p->replica_count; i++) {
        if (names(nodes, count, p->replicas[i])) continue;
        at[n] = p->at[i];
        at[n++].removing = true;
    }
    if (life > LOG_LIFE_MAX) controller_edit_fail(e, ERR_FULL);
    else if (!same_replicas(p, at, n)) controller_set_replicas(e, &t->id, partition, at, n);
}

bool reassign_cancel(struct controller_edit *e, const struct image_topic *t, int32_t partition) {
    const struct image_partition *p = image_partition(t, partition);
    int32_t nodes[IMAGE_REPLICAS_MAX], count = 0;
    if (!image_partition_is_moving(p)) return false;
    for (int32_t i = 0; i < p->replica_count; i++)
        if (!p->at[i].adding) nodes[count++] = p->replicas[i];
    if (count > 0) reassign_to(e, t, partition, nodes, count);
    return count > 0;
}

static void complete(struct controller_edit *e, const struct reassign_at_target *done) {
    const struct image_topic *t = image_topic_by_id(controller_edit_image(e), &done->topic);
    const struct image_partition *p = t ? image_partition(t, done->partition) : NULL;
    struct image_replica at[IMAGE_REPLICAS_MAX];
    int32_t n = 0;
    if (!p || p->replicas_offset != done->replicas_offset) return; /* said before, or something else is wanted now */
    for (int32_t i = 0; i < p->replica_count; i++) {
        if (p->at[i].removing) continue;
        at[n] = p->at[i];
        at[n++].adding = false;
    }
    controller_set_replicas(e, &t->id, done->partition, at, n);
}

void reassign_complete(struct controller_edit *e, const struct reassign_at_target *list, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) complete(e, &list[i]);
}
