/* api.h - the handlers, and what they share. One file for each family of APIs. */
#ifndef SERVER_API_H
#define SERVER_API_H
#include "server/api_errors.h"
#include "server/conn.h"
#include "server/image.h"
#include "server/request.h"

/* Groups: */
api_handler api_consumer_group_describe, api_consumer_group_heartbeat, api_delete_groups, api_describe_group_history, api_describe_groups, api_heartbeat, api_join_group, api_leave_group, api_list_groups,
    api_offset_delete, api_sync_group;
api_handler api_alter_client_quotas, api_alter_configs, api_alter_partition_reassignments, api_alter_replica_log_dirs,
    api_api_versions, api_create_acls,
    api_create_partitions, api_create_topics, api_delete_acls, api_delete_records, api_delete_topics,
    api_describe_acls, api_describe_client_quotas, api_describe_cluster, api_describe_configs, api_describe_log_dirs, api_describe_producers,
    api_describe_quorum, api_describe_storage, api_describe_topic_partitions, api_describe_user_scram_credentials, api_drain_brokers, api_elect_leaders,
    api_fetch, api_find_coordinator, api_incremental_alter_configs, api_init_producer_id, api_list_config_resources,
    api_list_offsets, api_list_partition_reassignments, api_metadata, api_offset_commit, api_offset_fetch,
    api_offset_for_leader_epoch, api_produce, api_add_raft_voter, api_remove_raft_voter, api_unregister_broker, api_update_features;

static inline struct broker *request_broker(const struct request *rq) { return rq->reactor->broker; }
static inline int16_t request_version(const struct request *rq) { return rq->header.api_version; }
static inline const struct image *request_image(const struct request *rq) { return reactor_image(rq->reactor); }

/* Zeroed memory of the request. On failure the connection is being closed and the handler must
 * return: NULL. `count` 0 gives a pointer that is not NULL. */
MUST_CHECK void *request_alloc(struct request *rq, size_t count, size_t size);
/* After a decode: false when the body does not parse; the connection is being closed then. */
MUST_CHECK bool request_decoded(struct request *rq, enum err err);
/* A copy that lives as long as the request (reactor 0 may do this while a change waits there); a null string when
 * memory is out. */
struct str request_copy(struct request *rq, struct str s);
struct bytes request_copy_bytes(struct request *rq, struct bytes b); /* null or out of memory: null */
struct str request_printf(struct request *rq, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Requests are handed out while completions are handled, when the reactor's clocks still show the time at which it
 * went to wait. Whoever measures or stamps from the arrival on sets them first. */
static inline void request_refresh_time(struct request *rq) {
    rq->reactor->now_ns = io_mono_ns(rq->reactor->io);
    rq->reactor->now_ms = io_wall_ms(rq->reactor->io);
}

/* Without an authorizer everybody may do everything: bit n is operation n of Kafka's AclOperation. */
enum { API_GROUP_OPERATIONS = 3400, API_TOPIC_OPERATIONS = 3576, API_CLUSTER_OPERATIONS = 8096 };
enum {
    API_RESOURCE_TOPIC = 2, API_RESOURCE_BROKER = 4, API_RESOURCE_BROKER_LOGGER = 8, API_RESOURCE_CLIENT_METRICS = 16,
    API_RESOURCE_GROUP = 32,
};

/* The text form of ids: base64url, 22 characters and NUL. */
enum { UUID_TEXT_BYTES = 23 };
void uuid_text(const struct uuid *id, char out[UUID_TEXT_BYTES]);
/* The other form, of 36 hexadecimal digits and dashes, of a new random one, and NUL. */
enum { UUID_HEX_BYTES = 37 };
void request_fresh_id(struct request *rq, char out[UUID_HEX_BYTES]);
struct str request_fresh_uuid(struct request *rq); /* in the first form */
struct str request_uuid_text(struct request *rq, const struct uuid *id);

/* 1..249 of [a-zA-Z0-9._-], not "." or "..", and not the metadata log's name. NULL: fine; else why not. */
const char *topic_name_problem(struct str name);
/* Topics that only the broker writes to. */
bool topic_name_internal(struct str name);

/* Where a partition is; what a request that names it gets if it is nowhere. */
struct api_partition { struct reactor *owner; uint64_t plid; int32_t index; int16_t error; };
/* By name, or by id when `by_id`. */
struct api_partition request_find_partition(struct request *rq, bool by_id, struct str name, const struct uuid *id,
                                            int32_t partition);
const struct image_topic *request_find_topic(struct request *rq, bool by_id, struct str name, const struct uuid *id,
                                             int16_t *error);

/* A set of numbers in the request's memory, to find what is named twice. */
struct number_set { uint64_t *slots; size_t mask; };
MUST_CHECK bool number_set_init(struct number_set *s, struct request *rq, size_t count); /* false: closing */
bool number_set_add(struct number_set *s, uint64_t number); /* false: it was there; `number` is not 0 */

/* Names of one request, to find those that are given twice. */
struct name_set { const struct str *names; uint32_t *slots; size_t mask; };
/* `names`: `count` of them, borrowed. False: closing. */
MUST_CHECK bool name_set_init(struct name_set *s, struct request *rq, const struct str *names, size_t count);
/* Adds names[index]; the index of an equal name that came before, or -1. Null names are never equal. */
int32_t name_set_add(struct name_set *s, int32_t index);

/* A failed change of metadata, for a client that may try again. */
int16_t api_change_error(enum err err);
/* Whether that is the answer, and not what make() has found, `error`: a broker that turned out not to be the controller had old metadata to
 * look into, in which things are there, or are not, that no longer are, or are by now. */
struct controller_change;
bool api_change_failed(const struct controller_change *ch, int16_t error);

/* What is allowed: 0, or INVALID_CONFIG with a sentence. Values may not be null. `config` is the broker's in force. */
int16_t topic_overrides_check(struct request *rq, const struct config *config, const struct topic_override *overrides, size_t count,
                              struct str *why);

/* Creates a topic in the background, with the broker's defaults (api_create_topics.c). Names that
 * exist by then, or may not exist, are left alone. */
void topics_auto_create(struct request *rq, const struct str *names, uint32_t count);
#endif
