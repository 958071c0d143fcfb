/* image_diff.c - an image that was made from nothing takes the place of one that reactors act upon: what that changes for them,
 * and what of the other one nobody shows any more.
 *
 * A broker that was away for so long that the metadata log begins behind what it has applied starts anew from a snapshot, and
 * must not act as if everything were new. */
#include "server/image_impl.h"

static enum err diff_partition(struct image_edit *e, const struct image_partition *was, const struct image_topic *t, int32_t partition) {
    int32_t self = e->broker->config.node_id;
    const struct image_partition *now = &t->partitions[partition];
    const struct image_replica *own = image_replica_of(now, self);
    if (was && was->replicas_offset == now->replicas_offset) return OK;
    if (was) return image_follow_self(e, t, partition, image_replica_of(was, self), own);
    if (!own) return OK;
    return image_add_change(e, (struct image_change){.kind = IMAGE_PARTITION_ADDED, .topic = t, .partition = partition, .life = own->life});
}

static enum err diff_topic(struct image_edit *e, const struct image_topic *was, const struct image_topic *t) {
    enum err err = OK;
    for (int32_t i = 0; i < t->partition_count && !err; i++) err = diff_partition(e, was ? image_partition(was, i) : NULL, t, i);
    if (err || !was || memcmp(&was->config, &t->config, sizeof t->config) == 0) return err;
    return image_add_change(e, (struct image_change){.kind = IMAGE_TOPIC_CONFIGURED, .topic = t, .partition = -1});
}

/* A partition has its group for ever, and a topic its id: what is removed goes first, for another one may have its name. */
enum err image_diff(struct image_edit *e) {
    struct image *im = e->next;
    const struct image *shown = e->shown;
    enum err err = OK;
    e->tracks_changes = true;
    im->removed_count = 0; /* reactors have what `shown` has */
    free(im->garbage);
    im->garbage = malloc(MAX(shown->topic_count, 1u) * sizeof(void *));
    im->garbage_count = 0;
    if (!im->garbage) return ERR_NOMEM;
    for (uint32_t i = 0; i < shown->topic_count && !err; i++) {
        struct image_topic *was = shown->by_name[i];
        im->garbage[im->garbage_count++] = was;
        if (!image_find_topic_by_id(im, &was->id))
            err = image_add_change(e, (struct image_change){.kind = IMAGE_PARTITION_REMOVED, .topic = was, .partition = -1});
    }
    for (uint32_t i = 0; i < im->topic_count && !err; i++)
        err = diff_topic(e, image_find_topic_by_id(shown, &im->by_name[i]->id), im->by_name[i]);
    im->broker_garbage = shown->broker;
    return err;
}
