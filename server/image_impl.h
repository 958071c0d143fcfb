/* image_impl.h - the image from the inside; for server/image*.c only. */
#ifndef SERVER_IMAGE_IMPL_H
#define SERVER_IMAGE_IMPL_H
#include <stdlib.h>
#include <string.h>
#include "proto/metadata.pb-c.h"
#include "server/image.h"

struct image_edit {
    const struct broker *broker;
    struct image *next;
    bool tracks_changes;             /* `base` was published: reactors act on the differences */
    bool broker_configured;          /* topics are to be resolved again */
    /* from nothing: image_edit_begin_anew() */
    const struct image *shown;       /* what it takes the place of; NULL: it goes on from another image */
    uint64_t from;
    bool blank;                      /* no record was applied yet */
    bool loading;                    /* from the snapshot that is open */
    uint32_t topic_cap, change_cap, garbage_cap, removed_cap;
};

/* Grows `*list` (elements of `size`) so that element `count` fits. */
bool image_grow(void *list, uint32_t count, uint32_t *cap, size_t size);
bool image_uuid_from(const ProtobufCBinaryData *b, struct uuid *out);

/* ---- image_topics.c ---- */
void image_topic_free(struct image_topic *t);
struct image_topic *image_find_topic(const struct image *im, struct str name);
struct image_topic *image_find_topic_by_id(const struct image *im, const struct uuid *id);
/* The topic as this edit may change it: a copy unless the edit made it. NULL: memory. */
struct image_topic *image_topic_own(struct image_edit *e, struct image_topic *t);
enum err image_add_change(struct image_edit *e, struct image_change change);
enum err image_apply_topic(struct image_edit *e, const Varve__Metadata__Topic *m);
enum err image_apply_remove_topic(struct image_edit *e, const Varve__Metadata__RemoveTopic *m);
/* ---- image_partitions.c ---- */
void image_partition_free(struct image_partition *p);
/* Appends a copy. False: memory. */
bool image_partition_add(struct image_topic *t, const struct image_partition *from);
enum err image_remember_removed(struct image_edit *e, uint64_t group, uint32_t life);
enum err image_apply_partition(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Partition *m);
/* What the replicas of now, against those of before (NULL: none), mean for this node's log. */
enum err image_follow_self(struct image_edit *e, const struct image_topic *t, int32_t partition, const struct image_replica *before,
                           const struct image_replica *now);
enum err image_apply_replicas(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__PartitionReplicas *m);
/* ---- image_configs.c ---- */
void image_configs_free(struct image_configs *c);
enum err image_configs_copy(struct image_configs *to, const struct image_configs *from);
void image_broker_free(struct image_broker *b);
void image_groups_free(struct image_groups *s);
/* What is in force for the topic: its overrides over the broker's defaults. */
enum err image_resolve_config(struct image_edit *e, const struct image_topic *t, struct topic_config *out);
/* A topic follows the broker in what it does not set itself. */
enum err image_topics_follow(struct image_edit *e);
enum err image_apply_config(struct image_edit *e, const Varve__Metadata__Config *m);
/* ---- image_nodes.c ---- */
void image_nodes_free(struct image_node *nodes, uint32_t count);
enum err image_apply_broker(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Broker *m);
enum err image_apply_remove_broker(struct image_edit *e, const Varve__Metadata__RemoveBroker *m);
enum err image_apply_drain(struct image_edit *e, const Varve__Metadata__Drain *m);
enum err image_apply_quorum(struct image_edit *e, const Varve__Metadata__QuorumVoters *m);
/* ---- image_snapshot.c ---- */
/* One record of the log, a piece of a snapshot or of a change; the second kind goes to `apply`. `record`, `len`: as it is encoded. */
typedef enum err image_apply_fn(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Record *r);
enum err image_snapshot_apply(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Record *r, const uint8_t *record,
                              size_t len, image_apply_fn *apply);
/* ---- image_diff.c ---- */
/* `e` was made from nothing: what changes for those who have seen e->shown, and what of it is garbage then. */
enum err image_diff(struct image_edit *e);
#endif
