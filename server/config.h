/* config.h - what the operator may set: one table of keys, and the values of one broker.
 *
 * The table (server/config_table.c) is the only place where a key exists: parsing, validation,
 * docs/configuration.md, DescribeConfigs and the nearest-key hint all read it. Kafka's names are
 * used where Kafka has the thing. Sources, weakest first: default, file, environment, command line.
 *
 * Every row has its value as text (what DescribeConfigs shows); rows that the broker acts on also
 * fill a typed field of `struct config`. Topic configs: server/topic_config.h.
 *
 * Threads: written before the reactors start, read-only afterwards. What may be changed later (config_dynamic()) is laid
 * over it in the metadata image: image_config(), reactor_config() in server/image.h say what is in force. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/bytes.h"
#include "base/compiler.h"
#include "base/err.h"

/* Numbers are those of DescribeConfigs' config_type. */
enum config_type {
    CONFIG_BOOL = 1, CONFIG_STRING = 2, CONFIG_INT = 3, CONFIG_LONG = 5, CONFIG_DOUBLE = 6, CONFIG_LIST = 7
};
enum config_source {
    CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENV, CONFIG_FLAG,
    CONFIG_DYNAMIC_DEFAULT, CONFIG_DYNAMIC_BROKER /* set while the broker runs: for all brokers, for this one (config_overlay()) */
};

/* One row. */
struct config_key {
    const char *name;
    enum config_type type;
    const char *initial;          /* default as text; NULL: not set (Kafka's null) */
    double min, max;              /* of numbers; both 0: any */
    const char *choices;          /* "a|b|c" for strings and list elements; NULL: any */
    const char *topic;            /* the topic config that this is the default of; NULL: none */
    size_t offset;                /* of the field in struct config; CONFIG_NO_FIELD */
    const char *doc;              /* sentences in markdown */
};
#define CONFIG_NO_FIELD SIZE_MAX

struct config_value {
    const char *text;             /* NULL: not set. Owned by the config, or the table's default */
    enum config_source source;
};

#define CONFIG_LISTENERS_MAX 8
struct config_listener {
    char name[64];                /* "PLAINTEXT" */
    char host[256];               /* as written; "" means all addresses */
    uint16_t port;                /* 0: any */
    char advertised_host[256];    /* "": none given, see request_advertised() */
    uint16_t advertised_port;
};

struct config_address { char host[256]; uint16_t port; };
#define CONFIG_VOTERS_MAX 9
#define CONFIG_BOOTSTRAP_MAX 16
struct config_voter { int32_t node; struct config_address at; };

struct config {
    struct config_value *values;  /* one for each row, in the table's order; owned */
    const struct config *below;   /* of an overlay; NULL: what was read at start */
    enum config_source layer;     /* of an overlay: the source of what it sets */
    char *derived;                /* texts of values that were worked out from others; owned */
    /* identity and addresses */
    int32_t node_id;
    const char *broker_rack;      /* NULL: none */
    const char *replica_selector; /* NULL, or a class name of Kafka's */
    struct config_listener listeners[CONFIG_LISTENERS_MAX];
    uint32_t listener_count;
    bool allow_insecure;
    /* other brokers */
    bool peer_listens;            /* voters or bootstrap servers are configured, or peer.listen is set */
    struct config_address peer_listen;     /* host "": all addresses; port 0: any */
    struct config_address peer_advertised; /* host "": where it listens */
    struct config_voter voters[CONFIG_VOTERS_MAX]; /* ascending by node; may contain this one */
    uint32_t voter_count;
    struct config_address bootstrap[CONFIG_BOOTSTRAP_MAX];
    uint32_t bootstrap_count;
    const char *data_dir;
    char *data_path;              /* the same as an absolute path, for clients; owned */
    /* topics */
    bool auto_create_topics, delete_topic;
    int32_t num_partitions, default_replication_factor;
    bool auto_leader_rebalance;
    int32_t max_topic_partitions; /* all topics together */
    /* storage */
    int64_t journal_bytes, disk_reserve_bytes, tail_bytes;
    int64_t scrub_bytes_per_second, scrub_interval_ms;
    int32_t journal_depth, open_files_max;
    bool log_cleaner_enable;
    int64_t log_cleaner_backoff_ms, log_cleaner_dedupe_buffer_size;
    double log_cleaner_io_max_bytes_per_second;
    bool relaxed;                 /* durability=relaxed */
    const char *io_backend;       /* auto, io_uring, blocking */
    int64_t metadata_snapshot_bytes, metadata_snapshot_interval_ms;
    /* threads, connections and memory */
    int32_t reactors;
    int64_t memory_max_bytes;     /* the budget of which the ones below are parts; server/memory.h */
    int32_t socket_request_max_bytes, max_connections, max_connections_per_ip, inflight_requests_max;
    const char *max_connections_per_ip_overrides; /* a list, checked; see config_connections_from() */
    int64_t queued_max_request_bytes, queued_max_response_bytes, inflight_bytes_max, request_arena_max_bytes, max_decompressed_batch_bytes;
    int64_t connections_max_idle_ms;
    int32_t receive_timeout_ms, send_timeout_ms, shutdown_timeout_ms;
    /* requests */
    int32_t fetch_max_bytes, fetch_session_slots;
    int32_t quota_window_num, quota_window_seconds, controller_quota_window_num, controller_quota_window_seconds;
    int32_t describe_partitions_max;
    int32_t producer_id_expiration_ms;
    int32_t transaction_max_timeout_ms;
    /* groups */
    int32_t group_initial_rebalance_delay_ms, group_min_session_timeout_ms, group_max_session_timeout_ms, group_max_size;
    int32_t offset_metadata_max_bytes, offsets_topic_num_partitions, offsets_topic_segment_bytes, offsets_retention_minutes;
    int64_t offsets_retention_check_interval_ms;
    int32_t group_consumer_session_timeout_ms, group_consumer_heartbeat_interval_ms, group_consumer_assignment_interval_ms,
            group_consumer_regex_refresh_interval_ms, group_consumer_max_size;
    const char *group_consumer_migration_policy;
    /* defaults of topic configs: read through topic_config_resolve() */
    /* diagnostics */
    const char *log_format;       /* text, logfmt, json */
    const char *log_level;
};

/* ---- what is set while the broker runs (server/config_dynamic.c) ---- */

/* May it be? What Kafka changes at run time and has an effect here, or none there (KIP-226). */
bool config_dynamic(const struct config_key *key);
/* May it be set to `value`? `why` is a sentence for the client. */
MUST_CHECK enum err config_dynamic_check(const struct config_key *key, struct str value, char *why, size_t why_len);
/* `below` (borrowed, must outlive `out`) with some values of the layer `source` over it; those that do not pass the
 * checks are left out (they were checked when they were set). ERR_NOMEM: nothing to free. */
struct config_override { const char *name, *value; };
MUST_CHECK enum err config_overlay(struct config *out, const struct config *below, enum config_source source,
                                   const struct config_override *overrides, size_t count);
void config_overlay_free(struct config *c);
/* The values of a row, the one in force first: each layer that sets it, then its default if it has one. */
struct config_synonym { const char *name; const char *value; enum config_source source; };
#define CONFIG_SYNONYMS_MAX 4
size_t config_synonyms(const struct config *c, const struct config_key *key, struct config_synonym out[CONFIG_SYNONYMS_MAX]);

/* All rows, ascending by name. */
const struct config_key *config_keys(size_t *count);
const struct config_key *config_find(struct str name);       /* NULL: unknown */
const struct config_value *config_value(const struct config *c, const char *name); /* of a row that exists */
const char *config_nearest(struct str name);                 /* the known key most like it; NULL: none is near */
/* Kafka keys with no meaning here: accepted and ignored. */
bool config_is_ignored(struct str name);

/* Collects values from sources; then config_finish() validates across keys and fills the fields.
 * Messages in `why` name the source ("server.properties:12: ..."). */
struct config_builder;
MUST_CHECK struct config_builder *config_builder_new(void);  /* NULL: no memory */
void config_builder_free(struct config_builder *b);
/* Properties syntax. `origin` is the file's name, for messages. */
MUST_CHECK enum err config_add_properties(struct config_builder *b, const char *origin, const char *text, size_t len,
                                          char *why, size_t why_len);
/* KAFKA_NODE_ID=1: the rule of Kafka's container images. Strings without the prefix are skipped. An
 * unknown name is an error when it looks like a misspelt key, else it is only counted as ignored. */
MUST_CHECK enum err config_add_environment(struct config_builder *b, char *const *environ_strings, char *why, size_t why_len);
/* `origin`: "--set" or the flag's name. */
MUST_CHECK enum err config_add(struct config_builder *b, const char *origin, struct str name, struct str value,
                               char *why, size_t why_len);
/* What the machine, or the container, has for the process: the default of memory.max.bytes is made from it. Unsaid: plenty. */
void config_machine_memory(struct config_builder *b, int64_t bytes);
/* Fills `out` (config_free() it). The builder can be freed afterwards. */
MUST_CHECK enum err config_finish(struct config_builder *b, struct config *out, char *why, size_t why_len);
/* One line for the operator about what was accepted and ignored; false: nothing was. */
bool config_ignored_summary(const struct config_builder *b, char *line, size_t line_len);
/* Defaults only (tests). */
MUST_CHECK enum err config_defaults(struct config *out);
void config_free(struct config *c);

/* One typed field of `c` from its text. */
void config_field_fill(struct config *c, const struct config_key *key, const char *text);
/* Checks `text` against type, range and choices of a row; also used for topic configs. */
MUST_CHECK enum err config_check_value(enum config_type type, double min, double max, const char *choices,
                                       struct str text, char *why, size_t why_len);
/* What else a value must be than its type says: for max.connections.per.ip.overrides. */
MUST_CHECK enum err config_connections_check(const struct config_key *key, struct str value, char *why, size_t why_len);
/* Connections that the address of `peer` may have. */
uint32_t config_connections_from(const struct config *c, const struct sockaddr_storage *peer);
/* Properties syntax, one pair a call: comments, continuation lines, `=` `:` or blank as separator, escapes. */
struct config_parser { const char *p, *end; unsigned line, next_line; };
enum config_parsed { CONFIG_PAIR, CONFIG_END, CONFIG_BAD };
/* Key and value are unescaped into `scratch` (as large as the text + 2 is always enough). CONFIG_BAD: `why` says it. */
enum config_parsed config_parse(struct config_parser *ps, char *scratch, size_t scratch_len, struct str *key, struct str *value,
                                const char **why);
/* Fills the listeners of `c` from its values; those named in `left_out` (a list) are skipped. */
MUST_CHECK enum err config_listeners_fill(struct config *c, const char *left_out, char *why, size_t why_len);
/* controller.quorum.voters, controller.quorum.bootstrap.servers and the peer listener; after the listeners. */
MUST_CHECK enum err config_peers_fill(struct config *c, const char *controller_names, char *why, size_t why_len);
/* docs/configuration.md, piece by piece. */
void config_print_reference(void (*put)(void *ctx, const char *text), void *ctx);
#endif
