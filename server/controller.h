/* controller.h - the metadata log and its writer.
 *
 * The metadata log is a log like any other, `__cluster_metadata-0`: batches of protobuf records
 * (proto/metadata.proto), one batch for each change. Reactor 0 replays it at start, then is its
 * only writer. A change goes: validate against the newest image -> append one batch -> wait until it
 * is committed -> apply to a new image -> publish. State changes only when the record that says so
 * is durable. Changes are handled one after the other up to the publishing; creating and deleting
 * logs on their reactors, and the answer, happen beside the next change.
 *
 * Threads: controller_submit() may be called on any reactor's thread; everything else on reactor 0's. */
#ifndef SERVER_CONTROLLER_H
#define SERVER_CONTROLLER_H
#include "base/bytes.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "server/broker.h"

#define METADATA_TOPIC "__cluster_metadata"
#define METADATA_GROUP 1 /* its number, in every directory and cluster */

struct controller;
struct feature;
struct image;

/* Made on the thread that opens the broker: after log_store_attach() and partition_map_new() of
 * every reactor, before the threads start. NULL: memory. */
MUST_CHECK struct controller *controller_new(struct broker *b);
/* Replays the metadata log (makes it in a fresh directory), publishes the first image, creates and
 * deletes logs as it says. `ready` runs on reactor 0's thread when the broker can acknowledge a
 * produce; after it the port may open. On failure `why` holds a sentence for the operator.
 * Call on reactor 0's thread; every reactor must be turning. */
void controller_start(struct controller *c, const struct log_recovery *recovery,
                      void (*ready)(void *ctx, enum err err, const char *why), void *ctx);
/* No change is accepted from now on; those that wait are answered with ERR_CLOSED. */
void controller_stop(struct controller *c);
/* After all reactors have stopped: frees the controller and the images. */
void controller_free(struct controller *c);

/* The controller is the leader of the metadata log, once it is established and has applied all that is committed. Whether
 * this broker is it, and which node is as far as it knows (-1: none known). Any thread; true of a moment ago. */
bool controller_is_active(const struct broker *b);
int32_t controller_leader_node(const struct broker *b);

/* Something of the group's replica here has changed: role, established, epoch, leader, members. Any group may be named. On the
 * reactor that owns it. */
void controller_quorum_changed(struct reactor *r, uint64_t group);

/* Where the metadata log is (DescribeQuorum). Once the broker is ready: any thread. */
uint64_t controller_metadata_plid(const struct controller *c, uint32_t *owner);

/* The records of one change while it is being made. */
struct controller_edit;
const struct image *controller_edit_image(const struct controller_edit *e); /* the newest, all durable */
struct broker *controller_edit_broker(const struct controller_edit *e);
uint64_t controller_edit_new_plid(struct controller_edit *e);
void controller_edit_fail(struct controller_edit *e, enum err err); /* nothing is appended */
void controller_edit_new_uuid(struct controller_edit *e, struct uuid *out);
/* Each adds one record. ERR_NOMEM, ERR_FULL: more than a change may hold; the edit remembers the first
 * failure and nothing is appended then, so callers need not check in between. */
enum err controller_add_topic(struct controller_edit *e, const struct uuid *id, struct str name);
enum err controller_add_partition(struct controller_edit *e, const struct uuid *topic, int32_t partition,
                                  const int32_t *replicas, int32_t replica_count);
/* All replicas, as they are to be: a reassignment begins, is done, is cancelled. */
struct image_replica;
enum err controller_set_replicas(struct controller_edit *e, const struct uuid *topic, int32_t partition, const struct image_replica *at,
                                 int32_t count);
/* A broker has registered; `metadata_offset` and `drained` of `node` do not matter. */
struct image_node;
enum err controller_set_broker(struct controller_edit *e, const struct image_node *node);
enum err controller_remove_broker(struct controller_edit *e, int32_t node);
enum err controller_set_drained(struct controller_edit *e, int32_t node, bool drained);
enum err controller_set_quorum(struct controller_edit *e, const int32_t *nodes, uint32_t count); /* ascending */
enum err controller_remove_topic(struct controller_edit *e, const struct uuid *topic);
enum err controller_set_config(struct controller_edit *e, int8_t resource_type, struct str resource_name,
                               struct str key, struct str value); /* a null value removes */
enum err controller_set_next_producer_id(struct controller_edit *e, int64_t next);

enum err controller_set_feature(struct controller_edit *e, const struct feature *feature, int16_t level);

/* A value of 0 removes. */
struct quota_entity;
enum err controller_set_quota(struct controller_edit *e, const struct quota_entity *entity, const char *key, double value);

enum { CONTROLLER_CHANGE_RECORDS_MAX = 20000, CONTROLLER_QUEUE_MAX = 4096 };

/* A request to change metadata; lives in its owner until `done` ran. */
struct controller_change {
    /* in */
    struct reactor *caller;
    void (*make)(struct controller_change *ch, struct controller_edit *e); /* reactor 0: validate, add records */
    void (*done)(struct controller_change *ch);                            /* the caller's thread, from its loop */
    void *owner;
    /* out */
    enum err err;               /* OK: durable, every reactor has moved on, logs are created (or nothing was
                                   added); ERR_NOT_CONTROLLER: ask the one that is (or try again);
                                   ERR_CLOSED, ERR_IO, ERR_NOSPACE, ERR_AGAIN (too many wait),
                                   ERR_FULL (too many records), ERR_NOMEM */
    bool unknown;               /* with an error: the records had been appended; whether they are ever in force, only the
                                   images to come can tell */
    /* private */
    struct mail mail;
    struct list link;
};
void controller_submit(struct controller *c, struct controller_change *ch);

/* ---- producer ids: blocks of 1000, each committed before the first id of it is given out ----
 *
 * From any broker; without a controller as long as its block lasts. An error: no controller was found for some seconds, or it has no
 * room. */
struct producer_id_request {
    struct reactor *caller;
    void (*done)(struct producer_id_request *rq); /* the caller's thread, from its loop */
    void *owner;
    enum err err;
    int64_t producer_id;
    /* private */
    struct mail mail;
    struct list link;
    int64_t since_ns;
};
void producer_id_get(struct controller *c, struct producer_id_request *rq);
void producer_ids_open(struct broker *b); /* before broker_start(): answers other brokers */
#endif
