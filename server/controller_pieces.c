/* controller_pieces.c - an image as the pieces of a snapshot: in sections, each record by record, so that it can stop anywhere.
 *
 * What a section leaves out is lost when the metadata log's start moves: tests/unit/test_image_snapshot.c compares. */
#include <stdio.h>
#include "server/api.h"
#include "server/controller_impl.h"

enum { NO_OFFSET = 1 };               /* of records whose offset the image does not keep */

/* Each adds the piece at the cursor, if there is one, and moves the cursor on. False: the section has no more. */
typedef bool section_fn(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at);

/* Levels that were never set are those of whoever reads. */
static bool put_features(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    uint32_t count;
    const struct feature *features = features_table(&count);
    if (at->at == count) return false;
    if (im->feature_levels[at->at] != features[at->at].initial) controller_set_feature(e, &features[at->at], im->feature_levels[at->at]);
    at->at++;
    return true;
}

static bool put_quorum(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    if (at->at++ > 0 || im->quorum_voter_count == 0) return false;
    controller_set_quorum(e, im->quorum_voters, im->quorum_voter_count);
    return true;
}

static bool put_producer_ids(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    if (at->at++ > 0 || im->next_producer_id == 0) return false;
    controller_set_next_producer_id(e, im->next_producer_id);
    return true;
}

static bool put_nodes(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    if (at->at == im->node_count) return false;
    const struct image_node *n = &im->nodes[at->at];
    if (at->part == 0) {
        e->kept = 1 + n->metadata_offset;
        controller_set_broker(e, n);
    } else if (n->drained) {
        controller_set_drained(e, n->node, true);
    }
    at->at += at->part;
    at->part ^= 1;
    return true;
}

/* ---- configs ----------------------------------------------------------------------------------------------------- */

static void put_config(struct controller_edit *e, int8_t type, const char *name, const struct image_config *c) {
    controller_set_config(e, type, str_from(name), str_from(c->name), str_from(c->value));
}

static bool put_configs(struct controller_edit *e, const struct image_configs *configs, int8_t type, const char *name, uint32_t *at) {
    if (*at == configs->count) return false;
    put_config(e, type, name, &configs->list[*at]);
    (*at)++;
    return true;
}

static bool put_broker_defaults(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    return im->broker && put_configs(e, &im->broker->defaults, API_RESOURCE_BROKER, "", &at->at);
}

static bool put_own(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    char name[16];
    if (!im->broker) return false;
    snprintf(name, sizeof name, "%d", im->broker->node);
    return put_configs(e, &im->broker->own, API_RESOURCE_BROKER, name, &at->at);
}

static bool put_named(struct controller_edit *e, const struct image_groups *list, int8_t type, struct snapshot_cursor *at) {
    for (; list && at->at < list->count; at->at++) {
        const struct image_group *g = &list->list[at->at];
        if (put_configs(e, &g->configs, type, g->name, &at->part)) return true;
        at->part = 0;
    }
    return false;
}
static bool put_other_brokers(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    return put_named(e, im->other_brokers, API_RESOURCE_BROKER, at);
}
static bool put_groups(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    return put_named(e, im->groups, API_RESOURCE_GROUP, at);
}

static bool put_quotas(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    if (!im->quotas || at->at == im->quotas->count) return false;
    const struct quota *q = im->quotas->list[at->at];
    enum quota_key key = (enum quota_key)at->part;
    if (q->values[key] != 0) controller_set_quota(e, &q->entity, quota_key_name(key), q->values[key]);
    at->part++;
    if (at->part < QUOTA_KEYS) return true;
    at->part = 0;
    at->at++;
    return true;
}

/* ---- topics ------------------------------------------------------------------------------------------------------- */

/* The topic, its configs, and two for each partition. */
static bool put_topics(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at) {
    if (at->at == im->topic_count) return false;
    const struct image_topic *t = im->by_name[at->at];
    uint32_t partitions = 2 * (uint32_t)t->partition_count, n = at->part;
    if (n == 0) {
        controller_add_topic(e, &t->id, (struct str){t->name, t->name_len});
    } else if (n <= t->configs.count) {
        put_config(e, API_RESOURCE_TOPIC, t->name, &t->configs.list[n - 1]);
    } else {
        int32_t partition = (int32_t)((n - 1 - t->configs.count) / 2);
        bool second = (n - 1 - t->configs.count) % 2 == 1;
        if (partition < t->partition_count && !second) controller_keep_partition(e, t, partition);
        else if (partition < t->partition_count && t->partitions[partition].first) controller_keep_replicas(e, t, partition);
    }
    at->part++;
    if (at->part <= t->configs.count + partitions) return true;
    at->part = 0;
    at->at++;
    return true;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

/* Brokers' configs before topics, which follow them. */
static section_fn *const sections[] = {
    put_features, put_quorum, put_producer_ids, put_nodes, put_broker_defaults, put_own, put_other_brokers, put_groups, put_quotas, put_topics,
};

bool controller_add_pieces(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at, size_t bytes_max,
                           uint32_t pieces_max) {
    e->batch.limit_bytes = CHANGE_BYTES_MAX + PIECE_BYTES_MORE;
    e->grows = true;
    for (uint32_t n = 0; n < pieces_max && at->section < ARRAY_LEN(sections);) {
        struct snapshot_cursor before = *at;
        if (e->batch.record_count > 0 && batch_builder_bytes(&e->batch) >= bytes_max) return false;
        e->kept = NO_OFFSET;
        n++;
        if (!sections[at->section](e, im, at)) *at = (struct snapshot_cursor){.section = before.section + 1};
        if (e->err == ERR_FULL && e->batch.record_count > 0) {
            e->err = OK;
            *at = before;
            return false;
        }
        if (e->err) return false;
    }
    return at->section == ARRAY_LEN(sections);
}
