/* controller_impl.h - the controller from the inside; for controller*.c, metadata_log.c and producer_ids.c. */
#ifndef SERVER_CONTROLLER_IMPL_H
#define SERVER_CONTROLLER_IMPL_H
#include "server/controller.h"
#include "server/image.h"
#include "server/partition.h"

struct controller_edit {
    struct controller *controller;
    struct batch_builder batch;
    enum err err;                     /* the first failure; nothing is appended then */
};

/* Producer ids of one reactor; that reactor's thread only. */
struct producer_ids {
    struct controller *controller;
    struct reactor *reactor;
    int64_t next, end;                /* ids that are left of the block */
    int64_t granted;                  /* set on reactor 0 while a change is on its way */
    struct list waiting;
    struct controller_change change;
    bool asking;
};

struct controller {
    struct broker *broker;
    /* the metadata log */
    struct image_topic topic;         /* a topic of one partition that no image shows */
    struct image_partition partition;
    bool found;                       /* the directory has it */
    /* changes: one at a time from `make` to publishing */
    struct list queue;
    uint32_t queue_count;
    bool busy, stopping;
    struct controller_change *current;
    struct controller_edit edit;
    struct image *next;               /* what the current change makes of the image */
    uint8_t *bytes;                   /* its batch, owned */
    struct partition_produce append;
    /* images on their way to the reactors, oldest first */
    struct list publishes;
    struct timer repair;
    struct producer_ids *producer_ids; /* one for each reactor */
    bool *behind;                     /* one for each reactor, its thread's: some log could not be made */
    /* start */
    uint64_t metadata_assigned;
    struct mail start_mail;
    enum err start_err;
    struct image_edit *replay;
    uint64_t replayed;                /* offset of the next record */
    struct fetch_group replay_group;
    struct fetch_part replay_part, *replay_parts[1];
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

/* Answers `ch` from its caller's loop. */
void controller_change_finish(struct controller_change *ch, enum err err);

/* controller_publish.c: makes `image` the newest. `ch` (may be NULL) is answered when every reactor has moved on and its
 * logs are made; with `initial` each reactor compares the image with the logs that it has. */
void controller_publish(struct controller *c, struct image *image, struct controller_change *ch, bool initial);
/* controller_publish.c: logs that could not be made are tried again. */
void controller_repair(struct timer *t);
void controller_publishes_free(struct controller *c); /* after the reactors have stopped */
/* controller_publish.c -> metadata_log.c: the initial image is everywhere. */
void metadata_log_ready(struct controller *c, enum err err);
void producer_ids_init(struct controller *c, struct producer_ids *ids, struct reactor *r);
#endif
