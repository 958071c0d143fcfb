/* image.h - the metadata image: brokers, topics, partitions and configs as of one metadata offset.
 *
 * Immutable once published. One writer: reactor 0, where the controller applies durable records of
 * the metadata log to an edit and publishes the result. Every other thread reads the image that its
 * reactor has moved to (reactor_image()); pointers into it are good until the reactor goes back to
 * its loop, so whoever works across turns copies what it needs.
 *
 * An edit shares every topic that it leaves alone; what it replaces is garbage, freed together with
 * the older image once every reactor has moved on (server/controller.c keeps that order). */
#ifndef SERVER_IMAGE_H
#define SERVER_IMAGE_H
#include "base/bytes.h"
#include "base/err.h"
#include "server/broker.h"
#include "server/features.h"
#include "server/quota_set.h"
#include "server/topic_config.h"

struct image_config { char *name, *value; };       /* one override; NUL-terminated */
struct image_configs { struct image_config *list; uint32_t count; }; /* ascending by name */

/* A registered broker. A node alone that never registered has none. */
struct image_listener { char *name, *host; int32_t port; };
struct image_node {
    int32_t node;
    struct uuid incarnation;
    struct image_listener *listeners;
    uint32_t listener_count;
    char *peer_host, *rack, *version;              /* never NULL; empty: none */
    int32_t peer_port;
    bool drained;                                  /* gets no new replicas, leads nothing that another can lead */
    uint64_t metadata_offset;                      /* of its newest Broker record: Kafka's broker epoch */
};

/* One replica of a partition. The target of its configuration: all without `removing`, each with the incarnation that
 * its node has now (image_node()), and its life in that (replica_incarnation()); `incarnation` is the node's at its assignment. */
struct image_replica {
    int32_t node;
    uint32_t life;                                 /* with the group, the plid of the node's log: log_plid() */
    struct uuid incarnation;                       /* zeros: not known (a node alone) */
    uint64_t metadata_offset;                      /* of the record that assigned it */
    bool adding, removing;                         /* a reassignment is running */
};
enum {
    IMAGE_REPLICAS_MAX = 9,                        /* members of a replica group: replication/config.h */
    IMAGE_NODES_MAX = 64,                          /* registered brokers: less than PEER_NODES_MAX, and the metadata log has
                                                      room for so many observers beside its members */
};

struct image_partition {
    uint64_t plid;                                 /* the replica group */
    uint64_t metadata_offset;                      /* of the record that made it */
    uint32_t owner;                                /* index of the reactor that knows of it, and has the log if it is here */
    uint64_t replicas_offset;                      /* of the record that put its replicas where they are: names the target */
    int32_t *replicas;                             /* nodes, in the order of `at`; the first one is preferred as leader */
    int32_t replica_count;
    struct image_replica *at;                      /* beside `replicas` */
    struct image_replica *first;                   /* the replicas that it was made with, if these are others; else NULL */
    int32_t first_count;
    uint32_t lives;                                /* lives below it were given out */
};
struct image_topic {
    struct uuid id;
    char *name;
    int32_t name_len;
    bool internal;
    struct image_partition *partitions;
    int32_t partition_count;
    struct image_configs configs;                  /* what was set on the topic */
    struct topic_config config;                    /* what is in force: overrides over the broker's */
    uint64_t edition;                              /* of the image that it was made for */
};

/* What moving from the previous image to this one means for the logs. */
enum image_change_kind {
    IMAGE_PARTITION_ADDED,                         /* this node has a replica from now on, of `life` */
    IMAGE_PARTITION_REMOVED,                       /* this node has its replica of `life` no longer; the whole topic: of those it had */
    IMAGE_PARTITION_CHANGED,                       /* the replicas are others, here or elsewhere; behind ADDED or REMOVED */
    IMAGE_TOPIC_CONFIGURED
};
struct image_change {
    enum image_change_kind kind;
    const struct image_topic *topic;               /* of the new image; a removed topic: of the old one */
    int32_t partition;                             /* -1 for the whole topic */
    uint32_t life;                                 /* of one partition that was added or removed */
};

/* What was set for brokers while they run, and what is in force here. */
struct image_broker {
    uint64_t edition;                              /* of the image that it was made for */
    int32_t node;                                  /* this one */
    struct image_configs defaults, own;            /* of all brokers (resource ""), of this one */
    struct config with_defaults, config;           /* overlays over what was read at start; `config` is in force */
};

/* What was set for groups (or other brokers), ascending by name. Made anew when something is set. */
struct image_group { char *name; struct image_configs configs; };
struct image_groups { uint64_t edition; struct image_group *list; uint32_t count; };

/* What the metadata log holds of snapshots (proto/metadata.proto), as far as it was applied. */
struct image_snapshots {
    bool open;                                     /* one has begun and what followed are its pieces */
    uint64_t begin, bytes;                         /* of the open one: its offset, and bytes of its records */
    uint32_t pieces, crc;
    uint64_t last, before;                         /* where the newest two whole ones begin; 0: there are none */
    uint64_t last_bytes;                           /* of the newest whole one */
    uint64_t tail_bytes;                           /* of records that the newest whole one does not stand for */
    uint64_t groups_end;                           /* the image was made from a snapshot: a group below it which the image does not
                                                      show was removed; 0: from all records */
};

struct image {
    struct image_broker *broker;                   /* NULL: nothing was ever set */
    struct image_groups *groups;                   /* NULL: nothing was ever set */
    struct image_groups *other_brokers;            /* what was set for single brokers elsewhere, by node id; NULL: nothing was ever set */
    struct image_broker *broker_garbage;           /* what the image before shows and this one does not; NULL: none */
    int16_t feature_levels[FEATURES_MAX];          /* in the order of features_table() */
    uint64_t metadata_end;                         /* metadata offsets below it are applied */
    uint64_t edition;                              /* counts images of this process */
    uint32_t topic_count;
    struct image_topic **by_name, **by_id, **by_folded; /* ascending; folded: by name with '_' as '.' */
    int64_t next_producer_id;
    int64_t partition_count;
    uint64_t groups_end;                           /* above the group of every partition there ever was: none is used twice */
    struct image_node *nodes;                      /* registered brokers, ascending; shared until one changes */
    uint32_t node_count;
    uint64_t nodes_edition;                        /* of the image that `nodes` was made for */
    int32_t quorum_voters[IMAGE_REPLICAS_MAX];     /* of the metadata log, as wanted; ascending */
    uint32_t quorum_voter_count;                   /* 0: never said */
    struct quota_set *quotas;                      /* client quotas; NULL: none. Shared until one changes */
    struct image_snapshots snapshots;
    struct image_change *changes;                  /* from the image before this one, unless that was empty */
    uint32_t change_count;
    uint64_t *removed_plids;                       /* from an empty image: logs of this node that metadata has removed, with their
                                                      lives; unordered */
    uint32_t removed_count;
    struct image_topic **garbage;                  /* what the image before still shows and this one does not */
    uint32_t garbage_count;
};

/* The image that this reactor works with; never NULL once the broker is ready. */
static inline const struct image *reactor_image(const struct reactor *r) { return r->image; }

/* The configuration in force; as good as the image. */
static inline const struct config *image_config(const struct image *im, const struct broker *b) {
    return im && im->broker ? &im->broker->config : &b->config;
}
static inline const struct config *reactor_config(const struct reactor *r) { return image_config(r->image, r->broker); }

const struct image_topic *image_topic_by_name(const struct image *im, struct str name);
const struct image_topic *image_topic_by_id(const struct image *im, const struct uuid *id);
const struct image_partition *image_partition(const struct image_topic *t, int32_t partition); /* NULL: no such */
const struct image_node *image_node(const struct image *im, int32_t node);                     /* NULL: not registered */
/* The replica on `node`, or NULL: it has none. */
const struct image_replica *image_replica_of(const struct image_partition *p, int32_t node);
bool image_partition_is_moving(const struct image_partition *p);                               /* a reassignment is running */
const struct image_configs *image_group_configs(const struct image *im, struct str group);     /* NULL: none are set */
/* What was set for one broker; NULL: nothing. */
const struct image_configs *image_broker_configs(const struct image *im, const struct broker *b, int32_t node);
const char *image_config_get(const struct image_configs *c, const char *name);                 /* NULL: not set */
/* A topic whose name is equal up to '.' and '_' (metric names would collide), or NULL. */
const struct image_topic *image_topic_colliding(const struct image *im, struct str name);

/* ---- making one (reactor 0) ---- */
struct image_edit;
MUST_CHECK struct image *image_new_empty(void);
/* Starts from `base` (borrowed); `b` gives node id, shard map and the static config. */
MUST_CHECK struct image_edit *image_edit_begin(const struct broker *b, const struct image *base);
/* Starts from nothing, for a log that begins at metadata offset `from`: what is there above 0 must begin with a snapshot. The
 * result takes the place of `shown` (borrowed, the newest until then) and says what that changes. */
MUST_CHECK struct image_edit *image_edit_begin_anew(const struct broker *b, const struct image *shown, uint64_t from);
/* False until a snapshot from which it is to be made has ended: it may not be finished. */
bool image_edit_is_whole(const struct image_edit *e);
/* One record's value; `metadata_offset` is its offset. ERR_CORRUPT: not a Record, or it contradicts what came before.
 * ERR_UNSUPPORTED: a kind from a later version. ERR_NOMEM. */
MUST_CHECK enum err image_edit_apply(struct image_edit *e, uint64_t metadata_offset, const uint8_t *record, size_t len);
/* Consumes the edit. NULL: memory; it is dropped. */
MUST_CHECK struct image *image_edit_finish(struct image_edit *e, uint64_t metadata_end);
void image_edit_drop(struct image_edit *e);
/* `im` was never published: frees what it does not share with the image it was made from. */
void image_free_unpublished(struct image *im);
/* `newer` has replaced `older` everywhere: frees `older` and the topics that only it showed. */
void image_free_older(struct image *older, struct image *newer);
/* The last image of a broker that has stopped: frees it with all its topics. */
void image_free_last(struct image *im);
#endif
