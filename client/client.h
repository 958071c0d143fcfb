/* client.h - libvarve: a small Kafka client over the same codec as the server.
 *
 * One `struct client`, with everything made from it, is used by one thread. There are no threads
 * inside: connections advance while a call is running. Calls block until they are done, their
 * deadline (`timeout_ms`) passes, or the error is final; retriable errors are retried inside with
 * back-off and refreshed metadata. Every error comes with a sentence: client_error(). Memory handed
 * in is borrowed for the call; memory handed out belongs to the object named in its comment.
 *
 *   client    connections, metadata (refreshed, leader routing), offsets, raw requests
 *   producer  batching per partition, compression, idempotence, retries, delivery reports
 *   consumer  by assignment: partitions with offsets; batches decoded to records
 *   group     a consumer that is a member of a group: classic protocol or KIP-848, commits
 *   admin     create, delete, list, describe, alter topics, configs, groups and their offsets; nodes, quorum, reassignments
 *
 * A broker answers one connection in order, and a fetch may wait there: a program that produces and
 * consumes at the same time makes two clients.
 *
 * Errors, unless a function says otherwise: ERR_TIMEOUT, ERR_CLOSED (no broker could be reached),
 * ERR_NOMEM, ERR_UNSUPPORTED (the broker lacks the API or version), ERR_CORRUPT (its answer does not
 * parse), and what client_err_from_code() makes of a Kafka error code, which client_error_code()
 * then tells. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H
#include "base/bytes.h"
#include "base/err.h"
#include "proto/kafka_api.h"
#include "proto/record_batch.h"

/* ---- client ----------------------------------------------------------------------------------- */

struct client_config {
    const char *bootstrap;        /* "HOST:PORT,HOST,[::1]:PORT"; port 9092 when left out */
    const char *client_id;        /* "varve" */
    int32_t connect_timeout_ms;   /* 10000: one attempt, name lookup aside */
    int32_t request_timeout_ms;   /* 30000: one request; when it passes the connection is closed */
    int32_t backoff_ms, backoff_max_ms; /* 50, 1000: doubles from attempt to attempt */
    int32_t metadata_max_age_ms;  /* 300000 */
    uint32_t response_bytes_max;  /* 256 MiB: a longer frame closes the connection */
};
void client_config_init(struct client_config *cfg); /* the defaults above; bootstrap 127.0.0.1:9092 */

struct client;
/* Connects nowhere yet. NULL with a sentence in `why`: the bootstrap list does not parse, or memory. */
MUST_CHECK struct client *client_create(const struct client_config *cfg, char *why, size_t why_len);
/* Producers and consumers made from it must be gone. NULL is allowed. */
void client_destroy(struct client *c);
/* Why the latest call that failed did: a sentence without a full stop, until the next call. */
const char *client_error(const struct client *c);
/* The Kafka error code behind it; 0 when there was none. */
int16_t client_error_code(const struct client *c);
enum err client_err_from_code(int16_t kafka_code); /* 0 is OK; unlisted ones are ERR_INVALID */

struct client_broker { int32_t id; const char *host; int32_t port; const char *rack; /* or NULL */ };
struct client_partition {
    int32_t index;
    int16_t error;                /* Kafka's code, e.g. LEADER_NOT_AVAILABLE */
    int32_t leader, leader_epoch; /* -1: none, unknown */
    const int32_t *replicas, *in_sync, *offline;
    int32_t replica_count, in_sync_count, offline_count;
};
struct client_topic {
    const char *name;
    struct uuid id;               /* zero when the broker tells none */
    int16_t error;                /* Kafka's code; then there are no partitions */
    bool internal;
    const struct client_partition *partitions; /* ascending by index */
    int32_t partition_count;
};
/* What one Metadata response said. */
struct client_cluster {
    const char *id;               /* cluster id, or NULL */
    int32_t controller;           /* broker id, or -1 */
    const struct client_broker *brokers;
    int32_t broker_count;
    const struct client_topic *topics; /* ascending by name */
    int32_t topic_count;
};
/* Asks now. `names` NULL: all topics; `count` 0 with names: brokers only. Unknown names come back
 * with their error set, and are not created. `*out` is freed with client_cluster_free(). */
MUST_CHECK enum err client_describe(struct client *c, const char *const *names, int32_t count, int32_t timeout_ms,
                                    struct client_cluster **out);
void client_cluster_free(struct client_cluster *cluster);

/* From the cache, waiting until the topic is known. `create`: let the broker create it if it does
 * that. ERR_NOT_FOUND: unknown when the time is up, or after 5 seconds, half a second without `create`. */
MUST_CHECK enum err client_partition_count(struct client *c, const char *topic, bool create, int32_t timeout_ms,
                                           int32_t *out);

/* Timestamps with a meaning, for client_list_offset() and consumer_assign(). */
enum { OFFSET_LATEST = -1, OFFSET_EARLIEST = -2, OFFSET_MAX_TIMESTAMP = -3 };
struct client_offset { int64_t offset, timestamp; int32_t leader_epoch; /* -1 each when unknown */ };
/* Where in the partition `timestamp_ms` is: the first record with that time or a later one (offset
 * -1: there is none), or one of the meanings above. OFFSET_LATEST is the high watermark. */
MUST_CHECK enum err client_list_offset(struct client *c, const char *topic, int32_t partition, int64_t timestamp_ms,
                                       int32_t timeout_ms, struct client_offset *out);

/* ---- raw requests ----------------------------------------------------------------------------- */

/* One exchange of any API: `encode` and `decode` wrap the generated functions of the message. */
struct client_exchange {
    int16_t api_key;
    int16_t version_max;          /* INT16_MAX: the newest that both sides know */
    int32_t broker;               /* id, CLIENT_ANY or CLIENT_CONTROLLER */
    const void *request;
    void (*encode)(const void *request, struct wire_writer *w, int16_t version);
    void *response;
    enum err (*decode)(void *response, struct wire_reader *r, int16_t version);
};
enum { CLIENT_ANY = -1, CLIENT_CONTROLLER = -2 };
/* Holds what the decoded response points to. */
struct client_reply { uint8_t *frame; struct arena arena; int16_t version; };
/* Sends once a connection is there (that much is retried until the time is up) and waits for the answer, whose
 * error codes are the caller's to read. On OK the reply must be freed. */
MUST_CHECK enum err client_call(struct client *c, const struct client_exchange *x, int32_t timeout_ms,
                                struct client_reply *reply);
void client_reply_free(struct client_reply *reply);

/* ---- producer --------------------------------------------------------------------------------- */

/* What became of one record. Called from producer_send, _poll, _flush and _destroy, in the order in
 * which each partition's records were sent; must not call back into the producer, nor keep pointers. */
struct producer_report {
    uint64_t tag;                 /* of producer_record */
    const char *topic;
    int32_t partition;
    int64_t offset;               /* -1: unknown (acks 0, failure, or a duplicate older than the broker remembers) */
    int64_t timestamp_ms;         /* the record's, or the broker's with LogAppendTime */
    enum err err;                 /* OK: stored as `acks` asks. ERR_TIMEOUT: may be stored or not */
    int16_t code;                 /* Kafka's code behind `err`; 0: none */
    const char *message;          /* a sentence; NULL when OK */
};
typedef void producer_report_fn(void *ctx, const struct producer_report *report);

struct producer_config {
    enum batch_codec codec;       /* CODEC_NONE */
    int level;                    /* INT_MIN: the codec's default */
    int16_t acks;                 /* -1: all in-sync replicas; 1: leader; 0: no answer */
    bool idempotent;              /* true; needs acks -1. Each record is stored once, in order, whatever is retried */
    int32_t linger_ms;            /* 5: how long a batch waits for company while the call returns at once */
    uint32_t batch_bytes;         /* 128 KiB: a batch is closed when its records reach this */
    uint32_t batch_bytes_max;     /* 1048588: a single larger record gets a batch of its own up to this */
    uint32_t request_bytes;       /* 1 MiB: batches of several partitions share a request up to this */
    size_t buffer_bytes;          /* 32 MiB: above it producer_send waits for deliveries */
    int32_t in_flight_max;        /* 5 requests on a connection; at most 5 when idempotent */
    int32_t request_timeout_ms;   /* 30000: how long the broker may wait for replicas */
    int32_t delivery_timeout_ms;  /* 120000: from producer_send to the final failure */
    bool create_topics;           /* true: let the broker create an unknown topic, if it does that */
    producer_report_fn *report;   /* NULL: count only */
    void *report_ctx;
};
void producer_config_init(struct producer_config *cfg);

enum { PARTITION_ANY = -1 };
struct producer_record {
    const char *topic;
    int32_t partition;            /* PARTITION_ANY: by the key's murmur2 as Java does; without a key one
                                     partition for a batch's length, then another */
    struct bytes key, value;      /* p NULL: null */
    const struct record_header *headers;
    int32_t header_count;
    int64_t timestamp_ms;         /* -1: now */
    uint64_t tag;                 /* handed back in the report */
};
struct producer_stats {
    uint64_t records_sent;        /* accepted by producer_send = delivered + failed + waiting */
    uint64_t records_delivered, records_failed;
    uint64_t batches_delivered;
    uint64_t bytes_delivered;     /* of batches as stored, after compression */
    uint64_t retries;             /* batches sent again */
    size_t buffered_bytes;        /* of records waiting */
};

struct producer;
/* NULL: memory, or settings that contradict each other; client_error() tells. */
MUST_CHECK struct producer *producer_create(struct client *c, const struct producer_config *cfg);
/* Records not yet delivered are reported with ERR_CLOSED; producer_flush() first. NULL is allowed. */
void producer_destroy(struct producer *p);
/* Copies the record into its partition's batch and returns; sends what is due. Waits (at most
 * delivery_timeout_ms) for the topic's metadata and for room in the buffer. OK: a report will follow.
 * Otherwise none will: ERR_NOT_FOUND (topic), ERR_INVALID (no such partition), ERR_TOO_LARGE,
 * ERR_TIMEOUT, ERR_NOMEM; ERR_FENCED: the producer is finished, every later call fails the same. */
MUST_CHECK enum err producer_send(struct producer *p, const struct producer_record *record);
/* Moves data and runs reports until something was delivered or failed, nothing waits any more, or
 * the time is up (0: what can be done without waiting); OK in all these cases, ERR_FENCED as above.
 * To be called when the program has nothing to send. */
MUST_CHECK enum err producer_poll(struct producer *p, int32_t timeout_ms);
/* Sends everything and waits until all is reported. ERR_TIMEOUT: not all; some may still be. Whether
 * records failed is told by reports and stats, not here. */
MUST_CHECK enum err producer_flush(struct producer *p, int32_t timeout_ms);
const struct producer_stats *producer_stats(const struct producer *p);
/* The partition that Java's default partitioner picks for a key. */
int32_t producer_partition_for_key(struct bytes key, int32_t partition_count);

/* ---- consumer --------------------------------------------------------------------------------- */

enum consumer_reset { CONSUMER_RESET_ERROR, CONSUMER_RESET_EARLIEST, CONSUMER_RESET_LATEST };
struct consumer_config {
    int32_t max_wait_ms;          /* 500: a broker with nothing to give answers after this */
    int32_t min_bytes;            /* 1 */
    int32_t max_bytes;            /* 50 MiB per response */
    int32_t partition_max_bytes;  /* 1 MiB per partition and response */
    size_t batch_bytes_max;       /* 256 MiB: cap of one batch when decompressed */
    bool read_committed;          /* false; true hides records of aborted and open transactions */
    enum consumer_reset reset;    /* CONSUMER_RESET_ERROR: when the offset is out of range */
    int32_t retry_timeout_ms;     /* 60000: a partition that failed this long is given up */
};
void consumer_config_init(struct consumer_config *cfg);

enum consumer_event_kind {
    CONSUMER_RECORD,
    CONSUMER_END,                 /* everything up to the end was handed out; again after each catching up */
    CONSUMER_ERROR,               /* the partition was given up: it is no longer assigned */
    /* of group_poll() only */
    CONSUMER_ASSIGNED,            /* `partitions` are ours from now on; may be none, after joining */
    CONSUMER_REVOKED,             /* they go to others: ours until the next call of group_poll(), so commit now */
    CONSUMER_LOST                 /* they are not ours any more (the group has expelled us): no commit counts */
};
/* `offset`: ASSIGNED: what is committed, -1: nothing, and reading begins where `reset` says; else the next to hand out. */
struct group_partition { const char *topic; int32_t partition; int64_t offset; };
struct consumer_event {
    enum consumer_event_kind kind;
    const char *topic;
    int32_t partition;
    int64_t end_offset;           /* high watermark as last seen (read_committed: last stable offset); -1 unknown */
    /* CONSUMER_RECORD */
    struct record record;         /* views, until the next call; headers by record_header_next() */
    int32_t leader_epoch;
    bool log_append_time;         /* the broker set record.timestamp */
    /* CONSUMER_END */
    int64_t next_offset;          /* the first that does not exist yet */
    /* CONSUMER_ERROR */
    enum err err;
    int16_t code;                 /* Kafka's; 0: none */
    const char *message;
    /* CONSUMER_ASSIGNED, _REVOKED, _LOST */
    const struct group_partition *partitions; /* ascending by topic and number */
    int32_t partition_count;
};

struct consumer;
MUST_CHECK struct consumer *consumer_create(struct client *c, const struct consumer_config *cfg); /* NULL: memory */
void consumer_destroy(struct consumer *k); /* NULL is allowed */
/* Adds a partition, or moves one. `offset`: from there on, or OFFSET_EARLIEST or OFFSET_LATEST, found out at the
 * next poll. For a time, ask client_list_offset() first. Whether it exists is found out later. */
MUST_CHECK enum err consumer_assign(struct consumer *k, const char *topic, int32_t partition, int64_t offset);
void consumer_unassign(struct consumer *k, const char *topic, int32_t partition);
int32_t consumer_assigned_count(const struct consumer *k);
/* The next event of any partition; order is kept within a partition. ERR_TIMEOUT: none in that time
 * (which looking up an OFFSET_ may exceed by a second). ERR_INVALID: nothing is assigned.
 * `*out` and what it points to live until the next call on this consumer. */
MUST_CHECK enum err consumer_poll(struct consumer *k, int32_t timeout_ms, const struct consumer_event **out);

/* ---- group consumer --------------------------------------------------------------------------- */

/* A member of a consumer group: the members share the partitions of their topics. Everything moves
 * while any call on this client runs, heartbeats too: a program that makes none for the session
 * timeout is expelled. Rebalances are events of group_poll(). Records are handed out at least once:
 * what was handed out before a call of group_poll() may be committed by it, and by other calls on the client until the next; not the
 * record that the program has in hand. */
enum group_protocol {
    GROUP_CLASSIC,                /* JoinGroup, SyncGroup: members assign (any broker) */
    GROUP_CONSUMER,               /* ConsumerGroupHeartbeat, KIP-848: the broker assigns */
    GROUP_AUTO                    /* KIP-848 where the broker serves it, else classic */
};
struct group_config {
    struct consumer_config consumer; /* its defaults, but CONSUMER_RESET_LATEST: also where nothing is committed */
    const char *group;
    const char *const *topics;    /* names; borrowed for the call */
    int32_t topic_count;
    const char *regex;            /* instead of or with topics; RE2 syntax, evaluated by the broker. KIP-848 only; NULL: none */
    enum group_protocol protocol; /* GROUP_CLASSIC */
    const char *assignors;        /* classic, in order of preference: "range,cooperative-sticky". Also "roundrobin".
                                     cooperative-sticky alone: partitions that stay are read on during a rebalance */
    const char *server_assignor;  /* KIP-848: "uniform" or "range"; NULL: the broker's choice */
    const char *instance_id;      /* static membership (KIP-345); NULL: dynamic */
    const char *rack;             /* NULL: none */
    int32_t session_timeout_ms;   /* 45000; classic only, as is */
    int32_t heartbeat_ms;         /* 3000 */
    int32_t rebalance_timeout_ms; /* 300000: how long the group waits for us in a rebalance */
    int32_t auto_commit_ms;       /* 5000; 0: only group_commit() */
};
void group_config_init(struct group_config *cfg);

struct group;
/* Joins in the background. NULL: memory, or settings that contradict each other; client_error() tells. */
MUST_CHECK struct group *group_create(struct client *c, const struct group_config *cfg);
/* As consumer_poll(), and rebalances. Also: ERR_FENCED (another member has our instance id), ERR_INVALID and
 * others when the group refuses us: final, every later call fails the same. ERR_TIMEOUT says in client_error() why
 * we are not in the group, if so. */
MUST_CHECK enum err group_poll(struct group *g, int32_t timeout_ms, const struct consumer_event **out);
/* Reads on at `offset`, or OFFSET_EARLIEST or _LATEST. ERR_NOT_FOUND: it is not ours. */
MUST_CHECK enum err group_seek(struct group *g, const char *topic, int32_t partition, int64_t offset);
/* Commits behind all records that were handed out, and waits. ERR_FENCED: the partitions are not ours any more.
 * ERR_AGAIN: a rebalance is going on; they are committed by another call after it, or not at all. */
MUST_CHECK enum err group_commit(struct group *g, int32_t timeout_ms);
/* The same in the background; how it ended is told by group_stats(). */
void group_commit_async(struct group *g);
/* Commits (with auto_commit_ms), leaves the group and frees. A static member does not leave: it has the session
 * timeout to come back. The error, if any, is about the commit or the leaving; `g` is gone in any case. */
enum err group_close(struct group *g, int32_t timeout_ms);
void group_destroy(struct group *g);  /* frees only, as if we had died. NULL is allowed */
struct group_stats {
    const char *member_id;        /* "" before joining; ours */
    int32_t generation;           /* or member epoch; -1: not a member */
    enum group_protocol protocol; /* in use */
    bool leader;                  /* classic: we assign */
    uint64_t rebalances;          /* assignments taken */
    uint64_t commits, commits_failed;
};
struct group_stats group_stats(const struct group *g);

/* ---- admin ------------------------------------------------------------------------------------ */

struct admin_setting { const char *name, *value; };
struct admin_new_topic {
    const char *name;
    int32_t partitions;           /* -1: the broker's default */
    int16_t replication_factor;   /* -1: the broker's default */
    const struct admin_setting *settings;
    int32_t setting_count;
    bool validate_only;
};
/* ERR_EXISTS; ERR_INVALID with the broker's own message otherwise. Returns when the controller has it. */
MUST_CHECK enum err admin_create_topic(struct client *c, const struct admin_new_topic *topic, int32_t timeout_ms);
MUST_CHECK enum err admin_delete_topic(struct client *c, const char *name, int32_t timeout_ms); /* ERR_NOT_FOUND */
/* `total`: the new number of partitions. */
MUST_CHECK enum err admin_create_partitions(struct client *c, const char *topic, int32_t total, bool validate_only,
                                            int32_t timeout_ms);
/* Deletes records below `before_offset` (-1: all up to the high watermark). `*low` is the new log start offset. */
MUST_CHECK enum err admin_delete_records(struct client *c, const char *topic, int32_t partition, int64_t before_offset,
                                         int32_t timeout_ms, int64_t *low);

/* What a partition's log is made of, as its leader knows it (DescribeStorage, Varve's own: other brokers close the
 * connection, ERR_CLOSED). Times are Unix milliseconds; INT64_MAX: never. */
struct admin_segment {
    int64_t base, end, size_bytes, newest_timestamp, created_ms, retention_due_ms;
    int8_t retention;             /* enum retention_reason of log/retention.h */
    int8_t compaction;            /* enum compact_segment of log/compact.h */
};
struct admin_storage {
    int64_t now_ms, start, committed_end, end, size_bytes;
    int32_t segment_count, faulty_ranges;
    bool deletes, compacts, compacting;
    int8_t compaction;            /* enum compact_reason of log/compact.h */
    int64_t compacted_end, clean_bytes, dirty_bytes, compaction_due_ms;
    int32_t dirty_millionths;
    bool ran;                     /* since the broker was started: */
    int64_t run_ended_ms, run_elapsed_ms, run_records_before, run_records_after, run_bytes_before, run_bytes_after;
    bool run_failed, run_map_full;
    const char *run_message;
    const struct admin_segment *segments; /* oldest first, a bounded number; none unless asked for */
    int32_t listed;
};
MUST_CHECK enum err admin_describe_storage(struct client *c, int32_t broker, const char *topic, int32_t partition, bool segments,
                                           int32_t timeout_ms, struct admin_storage **out);
void admin_storage_free(struct admin_storage *storage); /* NULL is allowed */

enum admin_resource { ADMIN_TOPIC = 2, ADMIN_BROKER = 4 };    /* Kafka's numbers */
enum admin_source {                                           /* who set it; Kafka's numbers */
    ADMIN_SOURCE_UNKNOWN = 0, ADMIN_SOURCE_TOPIC = 1, ADMIN_SOURCE_BROKER = 2, ADMIN_SOURCE_BROKER_DEFAULT = 3,
    ADMIN_SOURCE_STATIC = 4, ADMIN_SOURCE_DEFAULT = 5, ADMIN_SOURCE_GROUP = 8
};
const char *admin_source_name(enum admin_source source);      /* "topic", "default", ... */
struct admin_config {
    const char *name, *value;     /* value NULL: null or hidden */
    enum admin_source source;
    bool read_only, sensitive;
};
struct admin_configs { const struct admin_config *configs; int32_t count; }; /* ascending by name */
/* `name`: the topic, or the broker's id in digits ("" for the cluster-wide defaults). */
MUST_CHECK enum err admin_describe_configs(struct client *c, enum admin_resource type, const char *name,
                                           int32_t timeout_ms, struct admin_configs **out);
void admin_configs_free(struct admin_configs *configs);
enum admin_op { ADMIN_SET = 0, ADMIN_DELETE = 1, ADMIN_APPEND = 2, ADMIN_SUBTRACT = 3 };
struct admin_change { enum admin_op op; const char *name, *value; };
/* All of `changes` or none. Against brokers without IncrementalAlterConfigs, ADMIN_SET and ADMIN_DELETE
 * are done by reading and replacing the whole configuration. */
MUST_CHECK enum err admin_alter_configs(struct client *c, enum admin_resource type, const char *name,
                                        const struct admin_change *changes, int32_t count,
                                        bool validate_only, int32_t timeout_ms);

struct admin_dir_partition {
    const char *topic;
    int32_t partition;
    int64_t bytes, lag;           /* lag: records that this copy is behind the committed end, as the broker knows it */
};
struct admin_log_dir {
    const char *path;
    int16_t code;                 /* Kafka's: 0, or why the directory is not in use */
    int64_t total_bytes, usable_bytes; /* of its disk; -1: the broker does not tell */
    int64_t log_bytes;            /* of all partitions */
    int32_t partition_count;
    const struct admin_dir_partition *partitions; /* ascending by topic and partition */
};
struct admin_log_dirs { const struct admin_log_dir *dirs; int32_t count; };
MUST_CHECK enum err admin_describe_log_dirs(struct client *c, int32_t broker, int32_t timeout_ms, struct admin_log_dirs **out);
void admin_log_dirs_free(struct admin_log_dirs *dirs);

/* ---- the cluster itself ------------------------------------------------------------------------ */

struct admin_node { int32_t id; const char *host; int32_t port; const char *rack; bool up; }; /* rack NULL: none */
struct admin_nodes {
    const char *cluster_id;
    int32_t controller;           /* -1: none */
    const struct admin_node *nodes; /* ascending by id; with those that are known but down, if the broker tells them */
    int32_t count;
};
MUST_CHECK enum err admin_describe_nodes(struct client *c, int32_t timeout_ms, struct admin_nodes **out);
void admin_nodes_free(struct admin_nodes *nodes);             /* NULL is allowed, as below */

struct admin_quorum_member {
    int32_t id;
    struct uuid incarnation;      /* of its data directory */
    int64_t end;                  /* of its copy of the metadata log; -1: not known */
    int64_t heard_ms, caught_up_ms; /* Unix time; -1: not known */
    const char *host;             /* where its peer listener is; NULL: not told */
    int32_t port;
    bool voter;                   /* else it learns */
};
struct admin_quorum {
    int32_t leader, epoch;        /* -1: none */
    int64_t committed_end;
    const struct admin_quorum_member *members; /* ascending by id */
    int32_t count;
};
/* The metadata quorum, by the word of its leader. */
MUST_CHECK enum err admin_describe_quorum(struct client *c, int32_t timeout_ms, struct admin_quorum **out);
void admin_quorum_free(struct admin_quorum *quorum);
/* Makes a voter of a node that learns, as admin_describe_quorum() shows it, or takes the vote of one away. */
MUST_CHECK enum err admin_add_voter(struct client *c, const struct admin_quorum_member *node, int32_t timeout_ms);
MUST_CHECK enum err admin_remove_voter(struct client *c, const struct admin_quorum_member *node, int32_t timeout_ms);
/* Forgets a node that is gone for good. */
MUST_CHECK enum err admin_unregister_node(struct client *c, int32_t node, int32_t timeout_ms);

struct admin_drain {
    int32_t node;
    int16_t code;                 /* Kafka's: why nothing was changed; 0 */
    const char *message;          /* or NULL */
    bool drained;                 /* gets no new partitions, gives away what it leads and holds */
    int32_t replicas, moving, stuck; /* it holds; of these under way; of these, no other node can take them */
};
struct admin_drains { const struct admin_drain *list; int32_t count; };
enum admin_drain_change { ADMIN_DRAIN_ASK = 0, ADMIN_DRAIN_BEGIN = 1, ADMIN_DRAIN_END = 2 };
/* Of these nodes (NULL: all, nothing changed; Varve's own). The first of the nodes' errors is returned, and *out is set all the same
 * (else NULL on errors). */
MUST_CHECK enum err admin_drain(struct client *c, const int32_t *nodes, int32_t count, enum admin_drain_change change, int32_t timeout_ms,
                                struct admin_drains **out);
void admin_drains_free(struct admin_drains *drains);

struct admin_reassignment {
    const char *topic;
    int32_t partition;
    const int32_t *replicas, *adding, *removing; /* `replicas` holds both others */
    int32_t replica_count, adding_count, removing_count;
};
struct admin_reassignments { const struct admin_reassignment *list; int32_t count; }; /* ascending by topic and partition */
/* Those that are under way. */
MUST_CHECK enum err admin_list_reassignments(struct client *c, int32_t timeout_ms, struct admin_reassignments **out);
void admin_reassignments_free(struct admin_reassignments *reassignments);
/* Begins to move a partition to these nodes, the first of them the preferred leader. `count` 0: gives up what is under way. */
MUST_CHECK enum err admin_reassign(struct client *c, const char *topic, int32_t partition, const int32_t *replicas, int32_t count,
                                   int32_t timeout_ms);

/* ---- groups, from outside ---------------------------------------------------------------------- */

struct admin_group { const char *name, *protocol_type, *state, *type; }; /* state, type "" from brokers that tell none */
struct admin_groups { const struct admin_group *groups; int32_t count; }; /* ascending by name */
/* Of all brokers. `states`, `types` (NULL: all): names separated by commas, as "Stable,Empty"; old brokers do not filter. */
MUST_CHECK enum err admin_list_groups(struct client *c, const char *states, const char *types, int32_t timeout_ms,
                                      struct admin_groups **out);
void admin_groups_free(struct admin_groups *groups);

struct admin_partition { const char *topic; int32_t partition; };
struct admin_member {
    const char *id, *instance_id, *client_id, *host, *rack, *regex; /* instance_id, rack, regex NULL: none */
    const char *const *topics;    /* subscribed; classic: as its metadata says */
    int32_t topic_count;
    const struct admin_partition *partitions; /* ascending */
    int32_t partition_count;
    const struct admin_partition *target;     /* KIP-848: what it should have; else as `partitions` */
    int32_t target_count;
    int32_t epoch;                /* KIP-848; -1: classic */
    bool classic;                 /* speaks the classic protocol */
};
struct admin_group_details {
    const char *name, *state, *type, *protocol_type, *assignor; /* type "classic" or "consumer" */
    int32_t epoch, target_epoch;  /* KIP-848; -1: classic */
    struct client_broker coordinator;
    const struct admin_member *members;
    int32_t member_count;
};
/* ERR_NOT_FOUND: there is no such group. */
MUST_CHECK enum err admin_describe_group(struct client *c, const char *group, int32_t timeout_ms, struct admin_group_details **out);
void admin_group_details_free(struct admin_group_details *details);
/* The last rebalances of a group, oldest first (DescribeGroupHistory, Varve's own). Times are Unix time in ms. */
enum admin_rebalance_cause { ADMIN_UNKNOWN_CAUSE, ADMIN_JOINED, ADMIN_LEFT, ADMIN_SILENT, ADMIN_CHANGED };
struct admin_rebalance {
    int64_t begun_ms, elapsed_ms; /* elapsed -1: it is not over */
    int32_t epoch, members;
    enum admin_rebalance_cause cause;
    const char *member, *last_member; /* who caused it, "": not known; who came last */
    int64_t last_after_ms;
};
struct admin_group_history {
    int64_t now_ms;               /* the broker's clock */
    const struct admin_rebalance *rebalances;
    int32_t count;
    const char *const *waiting_for; /* members of a classic group that have not come yet */
    int32_t waiting_count;
};
/* ERR_NOT_FOUND. ERR_CLOSED: the broker is not Varve, most likely. */
MUST_CHECK enum err admin_group_history(struct client *c, const char *group, int32_t timeout_ms, struct admin_group_history **out);
void admin_group_history_free(struct admin_group_history *history);
/* ERR_NOT_FOUND; ERR_BUSY: it has members. */
MUST_CHECK enum err admin_delete_group(struct client *c, const char *group, int32_t timeout_ms);

struct admin_offset {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int32_t leader_epoch;         /* -1: unknown */
    const char *metadata;         /* NULL: none */
    int16_t error;                /* Kafka's code, of this one */
};
struct admin_offsets { const struct admin_offset *offsets; int32_t count; }; /* ascending by topic and partition */
/* All that is committed; nothing, without an error, for a group that does not exist. */
MUST_CHECK enum err admin_group_offsets(struct client *c, const char *group, int32_t timeout_ms, struct admin_offsets **out);
void admin_offsets_free(struct admin_offsets *offsets);
/* Commits, or deletes, as somebody who is no member. Each one's `error` is set; the first is also returned.
 * ERR_BUSY: the group has members (deleting: that subscribe to the topic). `offsets` sorted by topic. */
MUST_CHECK enum err admin_alter_group_offsets(struct client *c, const char *group, struct admin_offset *offsets, int32_t count,
                                              int32_t timeout_ms);
MUST_CHECK enum err admin_delete_group_offsets(struct client *c, const char *group, struct admin_offset *offsets, int32_t count,
                                               int32_t timeout_ms);
#endif
