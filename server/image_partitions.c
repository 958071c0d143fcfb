/* image_partitions.c - partitions of a topic and where their replicas are. */
#include "base/assert.h"
#include "log/log.h"
#include "server/image_impl.h"

const struct image_partition *image_partition(const struct image_topic *t, int32_t partition) {
    return partition >= 0 && partition < t->partition_count ? &t->partitions[partition] : NULL;
}

const struct image_replica *image_replica_of(const struct image_partition *p, int32_t node) {
    for (int32_t i = 0; i < p->replica_count; i++)
        if (p->at[i].node == node) return &p->at[i];
    return NULL;
}

bool image_partition_is_moving(const struct image_partition *p) {
    for (int32_t i = 0; i < p->replica_count; i++)
        if (p->at[i].adding || p->at[i].removing) return true;
    return false;
}

/* ---- memory: `at` and `replicas` are one block, `first` is another --------------------------------------------- */

void image_partition_free(struct image_partition *p) {
    free(p->at);
    free(p->first);
}

/* Sets `p`'s replicas to a copy of `at`. False: memory; `p` has none then. */
static bool replicas_copy(struct image_partition *p, const struct image_replica *at, int32_t count) {
    size_t n = (size_t)count;
    p->at = malloc(n * (sizeof *p->at + sizeof *p->replicas));
    p->replicas = NULL;
    p->replica_count = 0;
    if (!p->at) return false;
    p->replicas = (int32_t *)&p->at[n];
    p->replica_count = count;
    memcpy(p->at, at, n * sizeof *at);
    for (int32_t i = 0; i < count; i++) p->replicas[i] = at[i].node;
    return true;
}

static struct image_replica *first_copy(const struct image_replica *from, int32_t count) {
    struct image_replica *copy = malloc((size_t)count * sizeof *copy);
    if (copy) memcpy(copy, from, (size_t)count * sizeof *copy);
    return copy;
}

/* Room for partition number `partition_count`: the array's capacity is a power of two. */
static bool partitions_grow(struct image_topic *t) {
    uint32_t n = (uint32_t)t->partition_count;
    if (n != 0 && (n & (n - 1)) != 0) return true;
    struct image_partition *grown = realloc(t->partitions, (n ? 2 * (size_t)n : 1) * sizeof *grown);
    if (!grown) return false;
    t->partitions = grown;
    return true;
}

bool image_partition_add(struct image_topic *t, const struct image_partition *from) {
    if (!partitions_grow(t)) return false;
    struct image_partition p = *from;
    p.first = from->first ? first_copy(from->first, from->first_count) : NULL;
    if ((from->first && !p.first) || !replicas_copy(&p, from->at, from->replica_count)) {
        free(p.first);
        return false;
    }
    t->partitions[t->partition_count++] = p;
    return true;
}

/* ---- records ---------------------------------------------------------------------------------------------------- */

enum err image_remember_removed(struct image_edit *e, uint64_t group, uint32_t life) {
    struct image *im = e->next;
    if (e->tracks_changes) return OK;
    if (!image_grow(&im->removed_plids, im->removed_count, &e->removed_cap, sizeof *im->removed_plids)) return ERR_NOMEM;
    im->removed_plids[im->removed_count++] = log_plid(group, life);
    return OK;
}

static bool has_node(const struct image_replica *list, int32_t count, int32_t node) {
    for (int32_t i = 0; i < count; i++)
        if (list[i].node == node) return true;
    return false;
}

/* Replicas of a record: in range, each node once, not all leaving. False: not so. */
static bool replicas_from(struct image_replica *out, Varve__Metadata__Replica *const *list, size_t n, uint64_t metadata_offset) {
    size_t leaving = 0;
    if (n == 0 || n > IMAGE_REPLICAS_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        const Varve__Metadata__Replica *m = list[i];
        if (m->node < 0 || m->life > LOG_LIFE_MAX || has_node(out, (int32_t)i, m->node)) return false;
        out[i] = (struct image_replica){.node = m->node, .life = m->life, .metadata_offset = metadata_offset,
                                        .adding = m->adding, .removing = m->removing};
        if (m->incarnation.len > 0 && !image_uuid_from(&m->incarnation, &out[i].incarnation)) return false;
        leaving += m->removing;
    }
    return leaving < n;
}

/* As a node alone wrote them before there were clusters. */
static bool plain_replicas(struct image_replica *out, const int32_t *nodes, size_t n, uint64_t metadata_offset) {
    if (n == 0 || n > IMAGE_REPLICAS_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        if (has_node(out, (int32_t)i, nodes[i])) return false;
        out[i] = (struct image_replica){.node = nodes[i], .metadata_offset = metadata_offset};
    }
    return true;
}

enum err image_apply_partition(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Partition *m) {
    struct image *im = e->next;
    struct uuid id;
    struct image_replica at[IMAGE_REPLICAS_MAX];
    if (!image_uuid_from(&m->topic_id, &id)) return ERR_CORRUPT;
    struct image_topic *t = image_find_topic_by_id(im, &id);
    if (!t || m->partition != t->partition_count || m->plid == 0 || m->plid >> LOG_GROUP_BITS != 0) return ERR_CORRUPT;
    size_t n = m->n_at > 0 ? m->n_at : m->n_replicas;
    if (m->n_at > 0 ? !replicas_from(at, m->at, n, metadata_offset) : !plain_replicas(at, m->replicas, n, metadata_offset))
        return ERR_CORRUPT;
    for (size_t i = 0; i < n; i++)
        if (at[i].life != 0 || at[i].adding || at[i].removing) return ERR_CORRUPT;
    t = image_topic_own(e, t);
    if (!t) return ERR_NOMEM;
    struct image_partition p = {
        .plid = m->plid, .metadata_offset = metadata_offset, .replicas_offset = metadata_offset, .owner = log_store_shard_of(e->broker->store, m->plid), .at = at,
        .replica_count = (int32_t)n, .lives = 1,
    };
    if (!image_partition_add(t, &p)) return ERR_NOMEM;
    im->partition_count++;
    im->groups_end = MAX(im->groups_end, m->plid + 1);
    if (!has_node(at, (int32_t)n, e->broker->config.node_id)) return OK;
    return image_add_change(e, (struct image_change){.kind = IMAGE_PARTITION_ADDED, .topic = t, .partition = m->partition});
}

enum err image_follow_self(struct image_edit *e, const struct image_topic *t, int32_t partition, const struct image_replica *before,
                           const struct image_replica *now) {
    struct image_change change = {.topic = t, .partition = partition};
    bool same = before && now && before->life == now->life;
    enum err err = OK;
    if (before && !same) {
        change.kind = IMAGE_PARTITION_REMOVED;
        change.life = before->life;
        err = image_remember_removed(e, t->partitions[partition].plid, before->life);
        if (!err) err = image_add_change(e, change);
    }
    if (now && !same && !err) {
        change.kind = IMAGE_PARTITION_ADDED;
        change.life = now->life;
        err = image_add_change(e, change);
    }
    change.kind = IMAGE_PARTITION_CHANGED;
    change.life = 0;
    return err ? err : image_add_change(e, change);
}

enum err image_apply_replicas(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__PartitionReplicas *m) {
    struct image_replica at[IMAGE_REPLICAS_MAX];
    struct uuid id;
    if (!image_uuid_from(&m->topic_id, &id)) return ERR_CORRUPT;
    struct image_topic *t = image_find_topic_by_id(e->next, &id);
    if (!t || !image_partition(t, m->partition) || !replicas_from(at, m->replicas, m->n_replicas, metadata_offset)) return ERR_CORRUPT;
    int32_t n = (int32_t)m->n_replicas, self = e->broker->config.node_id;
    const struct image_partition *before = image_partition(t, m->partition);
    uint32_t lives = MAX(before->lives, m->lives);
    for (int32_t i = 0; i < n; i++) {
        const struct image_replica *was = image_replica_of(before, at[i].node);
        bool stays = was && was->life == at[i].life;
        if (!stays && at[i].life < before->lives) return ERR_CORRUPT; /* a life that is over does not come back */
        if (e->loading) at[i].metadata_offset = m->replicas[i]->assigned;
        else if (stays) at[i].metadata_offset = was->metadata_offset;
        lives = MAX(lives, at[i].life + 1);
    }
    t = image_topic_own(e, t);
    if (!t) return ERR_NOMEM;
    struct image_partition *p = &t->partitions[m->partition], next = *p;
    if (!replicas_copy(&next, at, n)) return ERR_NOMEM;
    if (!p->first) {
        next.first = first_copy(p->at, p->replica_count);
        next.first_count = p->replica_count;
        if (!next.first) {
            free(next.at);
            return ERR_NOMEM;
        }
    }
    struct image_replica was = {0};
    const struct image_replica *own = image_replica_of(p, self);
    if (own) was = *own;
    free(p->at);
    *p = next;
    p->lives = lives;
    p->replicas_offset = metadata_offset;
    return image_follow_self(e, t, m->partition, own ? &was : NULL, image_replica_of(p, self));
}
