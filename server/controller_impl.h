/* controller_impl.h - the controller from the inside; for controller*.c, metadata_log.c and producer_ids.c. */
#ifndef SERVER_CONTROLLER_IMPL_H
#define SERVER_CONTROLLER_IMPL_H
#include "server/controller.h"
#include "server/image.h"
#include "server/partition.h"
#include "server/peer.h"

enum {
    CHANGE_BYTES_MAX = 8 << 20,       /* of the records of one change */
    PIECE_BYTES_MORE = 64,            /* a piece of a snapshot is longer than the record that it stands for, by less than that */
    METADATA_SEGMENT_BYTES = 16 << 20
};

struct controller_edit {
    struct controller *controller;
    struct batch_builder batch;
    enum err err;                     /* the first failure; nothing is appended then */
    int64_t now_ms;                   /* stamps the records */
    bool grows;                       /* not for a disk that is nearly full: only what may free something uses the whole reserve */
    /* pieces of a snapshot (controller_pieces.c); 0: ordinary records */
    uint64_t kept;                    /* of each record from now on */
    uint32_t pieces, crc;             /* of all so far, also in batches before this one */
};

/* How far the records of an image are written. The image may be a newer one each time, if what it says is the same. */
struct snapshot_cursor { uint32_t section, at, part; };

/* A snapshot on its way into the log, and the log's start after it: controller_snapshot.c. */
struct snapshot_writer {
    struct controller_change change;  /* the next batch of it */
    bool away;                        /* `change` is not done */
    bool writing;                     /* other changes wait */
    uint64_t begin;                   /* where it begins */
    int64_t begun_ns;
    int32_t epoch;                    /* of this controller, when it began it */
    struct snapshot_cursor cursor;
    int64_t since_ns;                 /* when the first record behind the newest one was seen; 0: there is none */
    int64_t not_before_ns;            /* it failed */
    struct timer timer;               /* when to look again */
    struct partition_delete_records trim;
    bool trimming;
    uint64_t trimmed;                 /* the log is known to start there or later */
};

/* Producer ids of one reactor; that reactor's thread only. */
struct producer_id_block { int64_t next, end; }; /* what is left of it */
struct producer_ids {
    struct controller *controller;
    struct reactor *reactor;
    struct producer_id_block block, spare; /* in use, and the next one */
    struct list waiting;
    bool asking;                      /* `change` or `call` is away */
    struct controller_change change;
    int64_t granted;                  /* set on reactor 0 while it is */
    struct peer_call call;
    struct timer timer;               /* asking failed: not again before */
};

/* What the replica of the metadata log was when its reactor was asked last. */
struct metadata_role {
    int32_t epoch, leader;            /* leader: node, -1 unknown */
    bool leads;                       /* here, and established */
    struct replica_config config;     /* count 0: none yet */
    int64_t high_watermark, end;
};

/* From the metadata log to images: metadata_log.c. */
struct metadata_follower {
    uint64_t applied;                 /* offset of the next record */
    struct image_edit *replay;        /* the first image is being made; NULL: it is published */
    bool running;                     /* the log is here */
    struct fetch_group group;         /* waits for committed records, then reads them */
    struct fetch_part part, *parts[1];
    struct mail mail;                 /* goes on from the loop */
    bool away;                        /* the group is, or the mail */
    bool found;                       /* by the last watch: there is something to read */
    bool unreadable;                  /* what comes next is damaged here, which has been said; another broker has it (partition_mend.c) */
    enum err err;                     /* of the group, as it came home */
    uint8_t *bytes;                   /* whole batches that were read: [at, len) are not applied yet */
    size_t at, len, cap;
    struct timer timer;               /* when to try again */
    uint64_t wanted;                  /* the first image is published when it reaches this; UINT64_MAX: not known yet */
};

struct controller {
    struct broker *broker;
    /* the metadata log */
    struct image_topic topic;         /* a topic of one partition that no image shows */
    struct image_partition partition;
    bool found;                       /* the directory has it */
    struct metadata_follower follow;
    bool published;                   /* the first image is everywhere */
    bool served;                      /* `ready` was called */
    /* what this broker is in its group: controller_role.c */
    struct metadata_role role, role_asked; /* the second one belongs to whoever has role_mail */
    struct mail role_mail;            /* there and back */
    bool role_away, role_again;
    atomic_bool role_signalled;
    struct mail role_signal;
    atomic_bool active;
    int32_t active_epoch;             /* in which it was found so */
    _Atomic(int32_t) leader;
    /* changes: one at a time from `make` to publishing */
    struct list queue;
    uint32_t queue_count;
    bool stopping;
    bool appending;                   /* `append` is on its way, `bytes` are lent to it */
    struct controller_change *current;/* not applied yet; NULL: none, or the log was faster than the answer to the append */
    struct controller_edit edit;
    struct image *next;               /* what the current change makes of the image */
    uint8_t *bytes;                   /* its batch, owned */
    size_t bytes_len;
    struct partition_produce append;
    struct list unchanged, confirming;/* changes that ended without records; those `confirmation` is on its way for */
    struct partition_offset confirmation;
    /* images on their way to the reactors, oldest first */
    struct list publishes;
    uint32_t publish_count;
    struct timer repair;
    struct snapshot_writer snapshot;
    struct producer_ids *producer_ids; /* one for each reactor */
    struct list *parts;               /* one for each reactor, its thread's: images that it has not moved to yet (controller_publish.c) */
    bool *behind;                     /* one for each reactor, its thread's: some log could not be made */
    /* start */
    uint64_t metadata_assigned;
    struct mail start_mail;
    struct replica_config first_config; /* of a log that is to be made */
    bool founding;                    /* it has one */
    enum err start_err;
    void (*ready)(void *ctx, enum err err, const char *why);
    void *ready_ctx;
};

static inline struct reactor *controller_reactor(const struct controller *c) { return &c->broker->reactors[0]; }
static inline struct reactor *metadata_owner(const struct controller *c) {
    return &c->broker->reactors[c->partition.owner];
}

/* The newest image: what is applied here. */
static inline struct image *controller_newest(const struct controller *c) {
    return atomic_load_explicit(&c->broker->image, memory_order_relaxed);
}

/* ---- controller.c ---- */
/* Answers `ch` from its caller's loop. */
void controller_change_finish(struct controller_change *ch, enum err err);
/* The batch that lies at the end of what is applied, and is committed, is the current change's: hands out the image that
 * was prepared for it, and the change to answer. NULL: it is not. */
struct image *controller_take_prepared(struct controller *c, const struct batch_header *h, struct controller_change **ch);
/* Makes the next change, if there is one and the last one is applied. */
void controller_pump(struct controller *c);
/* The role or what is applied has changed. */
void controller_review(struct controller *c);
/* Clients are served from now on, if all that this takes is there: metadata, and a cluster that knows this broker. */
void controller_look_served(struct controller *c);

/* The broker cannot go on: an error of its start, or else the end of the process. */
void controller_fail(struct controller *c, enum err err, const char *why);

/* ---- controller_pieces.c ---- */
/* Adds pieces of what `im` says from `at` on, about `bytes_max` bytes and `pieces_max` of them. True: these were the last ones. */
bool controller_add_pieces(struct controller_edit *e, const struct image *im, struct snapshot_cursor *at, size_t bytes_max, uint32_t pieces_max);
/* A partition as it is, in two pieces; the second one if it has moved. */
enum err controller_keep_partition(struct controller_edit *e, const struct image_topic *t, int32_t partition);
enum err controller_keep_replicas(struct controller_edit *e, const struct image_topic *t, int32_t partition);
enum err controller_begin_snapshot(struct controller_edit *e, uint64_t groups_end);
/* Of all the pieces that were added; `begin` is the offset of its begin. */
enum err controller_end_snapshot(struct controller_edit *e, uint64_t begin);

/* ---- controller_snapshot.c ---- */
void controller_snapshot_init(struct controller *c);
/* The next batch of a snapshot that is due or was begun. NULL: none now; `*hold`: nor may another change be made. */
struct controller_change *controller_snapshot_next(struct controller *c, bool *hold);
/* Moves the log's start to the snapshot before the newest one, if this is the controller. */
void controller_snapshot_trim(struct controller *c);
void controller_snapshot_stop(struct controller *c);

/* ---- controller_role.c ---- */
/* Asks the reactor of the metadata log; then controller_review(). */
void controller_ask_role(struct controller *c);
static inline void controller_ask_role_unless_active(struct controller *c) {
    if (c->published && !atomic_load_explicit(&c->active, memory_order_relaxed)) controller_ask_role(c);
}

/* ---- controller_publish.c ---- */
/* Makes `image` the newest. `ch` (may be NULL) is answered when every reactor has moved on and its
 * logs are made; with `initial` each reactor compares the image with the logs that it has. */
void controller_publish(struct controller *c, struct image *image, struct controller_change *ch, bool initial);
bool controller_publish_has_room(const struct controller *c);
/* Logs that could not be made are tried again. */
void controller_repair(struct timer *t);
void controller_publishes_free(struct controller *c); /* after the reactors have stopped */

/* ---- metadata_log.c ---- */
/* Makes the log. `config`: the first one of its group; NULL: a leader will tell. */
void metadata_log_begin(struct controller *c, const struct replica_config *config);
/* Clients are served once metadata is here up to `end`. */
void controller_wants(struct controller *c, uint64_t end);
/* Reads the log from its start on, which is here now. */
void metadata_log_run(struct controller *c);
/* The first image is everywhere. */
void metadata_log_ready(struct controller *c, enum err err);
/* Applies what waits for room among the images on their way, and asks for more. */
void metadata_log_continue(struct controller *c);
/* Publishes the first image once enough was read. */
void metadata_log_look(struct controller *c);
/* The batch of `image` was committed by this broker itself: it need not be read. */
void metadata_log_applied(struct controller *c, struct image *image, struct controller_change *ch);
void metadata_log_stop(struct controller *c);
void metadata_log_free(struct controller *c);

void producer_ids_init(struct controller *c, struct producer_ids *ids, struct reactor *r);
#endif
