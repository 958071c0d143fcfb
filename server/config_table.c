/* config_table.c - every key that the broker knows, with its documentation. Ascending by name. */
#include "server/config.h"

/* The field of struct config that a row fills; a wrong field type does not compile. */
#define FIELD(ctype, f) \
    (offsetof(struct config, f) + 0 * sizeof(char[_Generic(&((struct config *)0)->f, ctype *: 1)]))
#define INT(name, initial, min, max, f, doc) {name, CONFIG_INT, initial, min, max, NULL, NULL, FIELD(int32_t, f), doc}
#define LONG(name, initial, min, max, f, doc) {name, CONFIG_LONG, initial, min, max, NULL, NULL, FIELD(int64_t, f), doc}
#define DOUBLE(name, initial, f, doc) {name, CONFIG_DOUBLE, initial, 0, 1.7976931348623157E308, NULL, NULL, FIELD(double, f), doc}
#define BOOL(name, initial, f, doc) {name, CONFIG_BOOL, initial, 0, 0, NULL, NULL, FIELD(bool, f), doc}
#define TEXT(name, initial, choices, f, doc) \
    {name, CONFIG_STRING, initial, 0, 0, choices, NULL, FIELD(const char *, f), doc}
#define LIST(name, initial, f, doc) {name, CONFIG_LIST, initial, 0, 0, NULL, NULL, FIELD(const char *, f), doc}
/* Rows without a field: read as text, or defaults of topic configs. */
#define BARE(name, type, initial, min, max, choices, doc) \
    {name, type, initial, min, max, choices, NULL, CONFIG_NO_FIELD, doc}
#define TOPIC(name, type, initial, min, max, choices, topic, doc) \
    {name, type, initial, min, max, choices, topic, CONFIG_NO_FIELD, doc}

#define I32 2147483647.0
#define I64 9223372036854775807.0
#define NEVER "9223372036854775807"
#define NOT_YET "Kept, without effect yet."

static const struct config_key table[] = {
    BARE("advertised.listeners", CONFIG_LIST, NULL, 0, 0, NULL,
         "The addresses that clients are told, `NAME://host:port`, one for each listener. Unset: the listen address; "
         "for a listener on all addresses, the address that the client connected to."),
    BOOL("allow.insecure", "false", allow_insecure,
         "Listen on addresses other than loopback although there is no authentication and no encryption yet: "
         "whoever reaches the port may read, write and delete everything."),
    BOOL("auto.create.topics.enable", "true", auto_create_topics,
         "Create a topic when a client asks for its metadata and allows that."),
    BOOL("auto.leader.rebalance.enable", "true", auto_leader_rebalance,
         "Leadership of a partition goes back to its preferred replica, the first one, soon after that is in sync again."),
    TEXT("broker.rack", NULL, NULL, broker_rack, "The rack of this broker, as Metadata shows it."),
    TOPIC("compression.gzip.level", CONFIG_INT, "-1", -1, 9, NULL, "compression.gzip.level",
          "Default of the topic config of the same name. -1: the codec's own default."),
    TOPIC("compression.lz4.level", CONFIG_INT, "9", 1, 17, NULL, "compression.lz4.level",
          "Default of the topic config of the same name."),
    TOPIC("compression.type", CONFIG_STRING, "producer", 0, 0, "uncompressed|zstd|lz4|snappy|gzip|producer",
          "compression.type", "Default of the topic config of the same name."),
    TOPIC("compression.zstd.level", CONFIG_INT, "3", -131072, 22, NULL, "compression.zstd.level",
          "Default of the topic config of the same name."),
    LONG("connections.max.idle.ms", "600000", -1, I64, connections_max_idle_ms,
         "A connection on which nothing happened for so long is closed. -1: never."),
    BARE("controller.quorum.bootstrap.servers", CONFIG_LIST, NULL, 0, 0, NULL,
         "Peer addresses (`host:port`) of brokers of the cluster that this one is to join. Needed only by a broker that is not "
         "among controller.quorum.voters."),
    BARE("controller.quorum.voters", CONFIG_LIST, NULL, 0, 0, NULL,
         "The brokers that together keep the metadata, `id@host:port` with their peer addresses, the same on all of them. They form "
         "the cluster when all of them are there for the first time. Unset: a broker for itself, unless it is to join others."),
    INT("controller.quota.window.num", "11", 1, 1000, controller_quota_window_num,
        "The same as quota.window.num for controller_mutation_rate, but that all windows are allowed at once."),
    INT("controller.quota.window.size.seconds", "1", 1, 3600, controller_quota_window_seconds, "Length of such a window."),
    INT("default.replication.factor", "1", 1, 32767, default_replication_factor,
        "Replicas of a topic that is created without saying how many."),
    BOOL("delete.topic.enable", "true", delete_topic, "Topics may be deleted."),
    LONG("disk.reserve.bytes", "268435456", 0, I64, disk_reserve_bytes,
         "Records are refused while less than this is free on the disk. Internal topics, and new topics and partitions, may use half of it; deletes and other changes of metadata all."),
    BARE("durability", CONFIG_STRING, "synced", 0, 0, "synced|relaxed",
         "`synced`: what is acknowledged has been synced to the device. `relaxed`: the device is not asked to sync; "
         "a power cut may lose acknowledged records. The mode is printed at start."),
    INT("fetch.max.bytes", "57671680", 1024, I32, fetch_max_bytes, "The most that one Fetch response carries."),
    BARE("follower.replication.throttled.rate", CONFIG_LONG, NEVER, 0, I64, NULL, "Kept for Kafka's tools: replication is not throttled."),
    INT("group.consumer.assignment.interval.ms", "1000", 0, I32, group_consumer_assignment_interval_ms,
        "The least time between two assignments of one consumer group, in which changes are gathered."),
    INT("group.consumer.heartbeat.interval.ms", "5000", 1, I32, group_consumer_heartbeat_interval_ms,
        "How often members of consumer groups (KIP-848) are told to send heartbeats."),
    INT("group.consumer.max.size", "2147483647", 1, I32, group_consumer_max_size, "Members of one consumer group."),
    TEXT("group.consumer.migration.policy", "bidirectional", "bidirectional|upgrade|downgrade|disabled", group_consumer_migration_policy,
         "Whether a group may change its protocol while it has members: from classic to consumer (`upgrade`), back (`downgrade`), both or neither."),
    INT("group.consumer.regex.refresh.interval.ms", "600000", 10000, I32, group_consumer_regex_refresh_interval_ms,
        "How often the topics that a regular expression of a consumer group stands for are looked up again at the latest."),
    INT("group.consumer.session.timeout.ms", "45000", 1, I32, group_consumer_session_timeout_ms,
        "A member of a consumer group that has sent no heartbeat for so long is put out."),
    INT("group.initial.rebalance.delay.ms", "3000", 0, I32, group_initial_rebalance_delay_ms,
        "How long the first rebalance of an empty group waits for more members."),
    INT("group.max.session.timeout.ms", "1800000", 1, I32, group_max_session_timeout_ms,
        "The longest session timeout that a member of a classic group may ask for."),
    INT("group.max.size", "2147483647", 1, I32, group_max_size, "Members of one classic group."),
    INT("group.min.session.timeout.ms", "6000", 1, I32, group_min_session_timeout_ms,
        "The shortest session timeout that a member of a classic group may ask for."),
    LONG("inflight.bytes.max", "67108864", 65536, I64, inflight_bytes_max,
         "Bytes of requests and unsent responses of one connection at which it is not read any more. A single larger "
         "request is still taken."),
    INT("inflight.requests.max", "256", 1, 100000, inflight_requests_max,
        "Requests of one connection that may be in work at once; then it is not read until one is answered."),
    TEXT("io.backend", "auto", "auto|io_uring|blocking", io_backend,
         "How the kernel is asked: `auto` uses io_uring where it works. The start lines say what is used and why."),
    LONG("journal.bytes", "268435456", 4194304, I64, journal_bytes,
         "Size of the commit journal; at most 1/8 of the file system is used."),
    INT("journal.depth", "2", 1, 8, journal_depth, "Journal groups that may be on their way to the device at once."),
    BARE("leader.replication.throttled.rate", CONFIG_LONG, NEVER, 0, I64, NULL, "Kept for Kafka's tools: replication is not throttled."),
    BARE("listeners", CONFIG_LIST, "PLAINTEXT://127.0.0.1:9092", 0, 0, NULL,
         "Where clients connect: `NAME://host:port`, up to eight, separated by commas. An empty host is all addresses, "
         "port 0 any free port. Listeners named in `controller.listener.names` are left out."),
    LONG("log.cleaner.backoff.ms", "15000", 0, I64, log_cleaner_backoff_ms,
         "How long each reactor waits before it looks for logs to compact again, when there was none."),
    LONG("log.cleaner.dedupe.buffer.size", "134217728", 0, I64, log_cleaner_dedupe_buffer_size,
         "Memory for the keys that compaction looks at, shared out over the reactors, 24 bytes for each key. A log with more keys is compacted "
         "in several runs. At most 1/32 of memory.max.bytes unless it is set."),
    TOPIC("log.cleaner.delete.retention.ms", CONFIG_LONG, "86400000", 0, I64, NULL, "delete.retention.ms",
          "How long tombstones of compacted topics are kept after they were first compacted."),
    BOOL("log.cleaner.enable", "true", log_cleaner_enable, "Compact topics whose cleanup.policy says so."),
    DOUBLE("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", log_cleaner_io_max_bytes_per_second,
           "Bytes that compaction may read and write a second, shared out over the reactors."),
    TOPIC("log.cleaner.max.compaction.lag.ms", CONFIG_LONG, NEVER, 1, I64, NULL, "max.compaction.lag.ms",
          "The longest that a record of a compacted topic may go without being compacted."),
    TOPIC("log.cleaner.min.cleanable.ratio", CONFIG_DOUBLE, "0.5", 0, 1, NULL, "min.cleanable.dirty.ratio",
          "The share of dirty bytes from which a compacted topic is cleaned."),
    TOPIC("log.cleaner.min.compaction.lag.ms", CONFIG_LONG, "0", 0, I64, NULL, "min.compaction.lag.ms",
          "The shortest time that a record of a compacted topic stays as it was written."),
    TOPIC("log.cleanup.policy", CONFIG_LIST, "delete", 0, 0, "compact|delete", "cleanup.policy",
          "Default of `cleanup.policy`: `delete`, `compact` or both."),
    BARE("log.dir", CONFIG_STRING, NULL, 0, 0, NULL, "The data directory, when `log.dirs` is not set."),
    BARE("log.dirs", CONFIG_LIST, NULL, 0, 0, NULL,
         "The data directory (one only). Unset, as is `log.dir`: `./varve-data`. Flag: `--data`."),
    TOPIC("log.flush.interval.messages", CONFIG_LONG, NEVER, 1, I64, NULL, "flush.messages",
          "Kept for Kafka's tools. Every acknowledged record is durable already."),
    TOPIC("log.flush.interval.ms", CONFIG_LONG, NULL, 0, I64, NULL, "flush.ms",
          "Kept for Kafka's tools. Every acknowledged record is durable already."),
    TEXT("log.format", "text", "text|logfmt|json", log_format, "Form of the diagnostic lines on stderr. Flag: `--log-format`."),
    TOPIC("log.index.interval.bytes", CONFIG_INT, "4096", 0, I32, NULL, "index.interval.bytes",
          "Bytes of records between two entries of the offset index."),
    TOPIC("log.index.size.max.bytes", CONFIG_INT, "10485760", 4, I32, NULL, "segment.index.bytes",
          "The largest size of an index file; the segment is rolled when it is full."),
    TEXT("log.level", "info", "error|warn|info|debug", log_level, "The least important diagnostic lines that are written."),
    TOPIC("log.message.timestamp.after.max.ms", CONFIG_LONG, "3600000", 0, I64, NULL, "message.timestamp.after.max.ms",
          "How far in the future a producer's timestamp may lie."),
    TOPIC("log.message.timestamp.before.max.ms", CONFIG_LONG, NEVER, 0, I64, NULL, "message.timestamp.before.max.ms",
          "How far in the past a producer's timestamp may lie."),
    TOPIC("log.message.timestamp.type", CONFIG_STRING, "CreateTime", 0, 0, "CreateTime|LogAppendTime",
          "message.timestamp.type", "Whose clock stamps records: the producer's or the broker's."),
    TOPIC("log.preallocate", CONFIG_BOOL, "false", 0, 0, NULL, "preallocate",
          "Kept for Kafka's tools: segment files grow as they are written."),
    TOPIC("log.retention.bytes", CONFIG_LONG, "-1", -1, I64, NULL, "retention.bytes",
          "Size of a partition above which its oldest segments are deleted. -1: no limit."),
    BARE("log.retention.check.interval.ms", CONFIG_LONG, "300000", 1, I64, NULL,
         "How often segments are checked for retention."),
    TOPIC("log.retention.hours", CONFIG_INT, "168", -1, I32, NULL, "retention.ms",
          "Age of records in hours, when neither `log.retention.minutes` nor `log.retention.ms` is set. -1: for ever."),
    TOPIC("log.retention.minutes", CONFIG_INT, NULL, -1, I32, NULL, "retention.ms",
          "Age of records in minutes, when `log.retention.ms` is not set. -1: for ever."),
    TOPIC("log.retention.ms", CONFIG_LONG, NULL, -1, I64, NULL, "retention.ms",
          "Age at which segments are deleted. -1: for ever."),
    TOPIC("log.roll.hours", CONFIG_INT, "168", 1, I32, NULL, "segment.ms",
          "Age in hours at which a segment is rolled, when `log.roll.ms` is not set."),
    TOPIC("log.roll.jitter.hours", CONFIG_INT, "0", 0, I32, NULL, "segment.jitter.ms",
          "Largest random lead of rolling in hours, when `log.roll.jitter.ms` is not set. " NOT_YET),
    TOPIC("log.roll.jitter.ms", CONFIG_LONG, NULL, 0, I64, NULL, "segment.jitter.ms", "Largest random lead of rolling. " NOT_YET),
    TOPIC("log.roll.ms", CONFIG_LONG, NULL, 1, I64, NULL, "segment.ms", "Age at which a segment is rolled."),
    TOPIC("log.segment.bytes", CONFIG_INT, "1073741824", 1048576, I32, NULL, "segment.bytes",
          "The largest size of a segment file."),
    TOPIC("log.segment.delete.delay.ms", CONFIG_LONG, "60000", 0, I64, NULL, "file.delete.delay.ms",
          "Kept for Kafka's tools: files go at once, and reads of them that are under way finish first."),
    INT("max.connections", "2147483647", 1, I32, max_connections, "Connections open at once; further ones are closed."),
    INT("max.connections.per.ip", "2147483647", 0, I32, max_connections_per_ip,
        "Connections from one address; further ones are closed. 0: only addresses that max.connections.per.ip.overrides names."),
    LIST("max.connections.per.ip.overrides", "", max_connections_per_ip_overrides,
         "Other numbers for single addresses, `ADDRESS:COUNT,...`. Addresses, no names."),
    LONG("max.decompressed.batch.bytes", "67108864", 1048576, 268435456, max_decompressed_batch_bytes,
         "The largest size that a compressed batch may have when the broker must look into it. The default is lower where an eighth of "
         "memory.max.bytes, shared out over the reactors, is less."),
    INT("max.incremental.fetch.session.cache.slots", "1000", 0, I32, fetch_session_slots,
        "Fetch sessions (KIP-227) kept, shared out over the reactors, at most 10,000 for each. Their memory is bounded, too: a 32nd of "
        "memory.max.bytes."),
    INT("max.request.partition.size.limit", "2000", 1, I32, describe_partitions_max,
        "The most partitions that one DescribeTopicPartitions answer holds; clients ask for the rest."),
    INT("max.topic.partitions", "100000", 1, 10000000, max_topic_partitions, "Partitions of all topics together."),
    LONG("memory.max.bytes", "0", 0, I64, memory_max_bytes,
         "The memory that the broker plans with; the defaults of the budgets below are parts of it, and settings whose sum is larger are "
         "refused at start. 0: half of what the machine or the container has, at most 512 MiB for each reactor and 1 GiB at least. "
         "At least 128 MiB. Printed at start."),
    TOPIC("message.max.bytes", CONFIG_INT, "1048588", 0, I32, NULL, "max.message.bytes",
          "The largest record batch that is taken, as it comes over the wire."),
    LONG("metadata.log.max.record.bytes.between.snapshots", "20971520", 1, I64, metadata_snapshot_bytes,
         "Bytes of records in the metadata log after which a new snapshot stands for all of them (an eighth of the last snapshot's, if that "
         "is more). What the snapshot before it stands for is deleted then."),
    LONG("metadata.log.max.snapshot.interval.ms", "3600000", 0, I64, metadata_snapshot_interval_ms,
         "The longest that a record of the metadata log goes without a snapshot that stands for it. 0: no limit."),
    TOPIC("min.insync.replicas", CONFIG_INT, "1", 1, I32, NULL, "min.insync.replicas",
          "Replicas that must be in sync for a write with acks=all."),
    INT("node.id", "1", 0, I32, node_id, "The number of this broker, unique in its cluster and fixed for its data directory. Flag: `--node-id`."),
    INT("num.partitions", "1", 1, I32, num_partitions, "Partitions of a topic that is created without saying how many."),
    INT("offset.metadata.max.bytes", "4096", 0, I32, offset_metadata_max_bytes,
        "The largest metadata text beside a committed offset."),
    LONG("offsets.retention.check.interval.ms", "600000", 1, I64, offsets_retention_check_interval_ms,
         "How often committed offsets are looked through for those that have expired."),
    INT("offsets.retention.minutes", "10080", 1, I32, offsets_retention_minutes,
        "How long a group that has become empty keeps its committed offsets; for a group that commits without members, and for topics "
        "that a group no longer reads: counted from each commit."),
    INT("offsets.topic.num.partitions", "50", 1, 10000, offsets_topic_num_partitions,
        "Partitions of `__consumer_offsets` when the first group makes it."),
    INT("offsets.topic.segment.bytes", "104857600", 1048576, I32, offsets_topic_segment_bytes,
        "Segment size of `__consumer_offsets` when the first group makes it."),
    INT("open.files.max", "0", 0, I32, open_files_max,
        "Segment files kept open. 0: half of what the process may open."),
    BARE("peer.advertised", CONFIG_STRING, NULL, 0, 0, NULL,
         "Where other brokers reach this one, `host:port`. Unset: its entry in controller.quorum.voters, else where it listens for them."),
    BARE("peer.listen", CONFIG_STRING, NULL, 0, 0, NULL,
         "Where other brokers connect, `host:port`; an empty host is all addresses. Opened only when this broker has others to talk to "
         "or voters are configured. Unset: the first listener of `controller.listener.names`, else the host and port of its own entry "
         "in controller.quorum.voters, else 127.0.0.1:9093."),
    INT("producer.id.expiration.ms", "86400000", 1, I32, producer_id_expiration_ms,
        "After so long without a write the sequence numbers of an idempotent producer are forgotten."),
    LONG("queued.max.request.bytes", "0", 0, I64, queued_max_request_bytes,
         "Bytes of requests in work and of their decoded forms, all connections together, shared out over the reactors; above it requests "
         "wait in their sockets, for receive.timeout.ms. 0: a quarter of memory.max.bytes."),
    LONG("queued.max.response.bytes", "0", 0, I64, queued_max_response_bytes,
         "Bytes of responses that wait for their clients to take them, all connections together, shared out over the "
         "reactors. As it fills up, Fetch responses get smaller; when it is used up, the connections that have taken nothing for the "
         "longest time are closed. 0: an eighth of memory.max.bytes."),
    INT("quota.window.num", "11", 1, 1000, quota_window_num,
        "Windows over which client quotas are held, the current one included. An idle client may use what the other ones allow at once."),
    INT("quota.window.size.seconds", "1", 1, 3600, quota_window_seconds, "Length of such a window."),
    INT("reactors", "0", 0, 256, reactors, "Threads that serve connections and partitions. 0: one for each core."),
    INT("receive.timeout.ms", "30000", 100, I32, receive_timeout_ms,
        "A request that has begun to arrive must make progress (be complete, or 1 MiB further) within this time (a tenth of "
        "it while others wait for queued.max.request.bytes), or the connection is closed."),
    BARE("replica.alter.log.dirs.io.max.bytes.per.second", CONFIG_LONG, NEVER, 0, I64, NULL,
         "Kept for Kafka's tools: there is one data directory."),
    TEXT("replica.selector.class", NULL,
         "org.apache.kafka.common.replica.LeaderSelector|org.apache.kafka.common.replica.RackAwareReplicaSelector", replica_selector,
         "Where consumers read that say which rack they are in (`client.rack`). RackAwareReplicaSelector: from an in-sync replica in "
         "that rack, if there is one (KIP-392). Unset, or LeaderSelector: from the leader."),
    LONG("request.arena.max.bytes", "0", 0, I32, request_arena_max_bytes,
         "Memory for the decoded form of one request. 0: a 32nd of memory.max.bytes, shared out over the reactors, at most 16 MiB."),
    BARE("request.timeout.ms", CONFIG_INT, "30000", 1, I32, NULL, "How long a request between brokers may take. " NOT_YET),
    LONG("scrub.bytes.per.second", "10485760", 0, I64, scrub_bytes_per_second,
         "How fast segments are read in the background to find what has rotted, all reactors together. 0: never."),
    LONG("scrub.interval.ms", "604800000", 1, I64, scrub_interval_ms,
         "From the beginning of one such reading of everything to that of the next, at least."),
    INT("send.timeout.ms", "30000", 100, I32, send_timeout_ms,
        "A client must take its response (or the next 1 MiB of it) within this time (a tenth of it while queued.max.response.bytes "
        "is used up), or the connection is closed."),
    INT("shutdown.timeout.ms", "10000", 0, I32, shutdown_timeout_ms,
        "How long requests in work may take to finish after SIGTERM."),
    INT("socket.request.max.bytes", "104857600", 1024, I32, socket_request_max_bytes,
        "The largest request. The default is lower where a reactor's part of queued.max.request.bytes is less."),
    LONG("tail.bytes", "0", 0, I64, tail_bytes,
         "Memory for recent batches, from which consumers at the end of a log are served. 0: a sixteenth of memory.max.bytes."),
    INT("transaction.max.timeout.ms", "900000", 1, I32, transaction_max_timeout_ms,
        "The longest timeout that a transactional producer may ask for."),
    TOPIC("unclean.leader.election.enable", CONFIG_BOOL, "false", 0, 0, NULL, "unclean.leader.election.enable",
          "Kept for Kafka's tools: a replica that lacks acknowledged records never leads here."),
};

const struct config_key *config_keys(size_t *count) {
    *count = ARRAY_LEN(table);
    return table;
}

/* Keys of Kafka's own that change nothing in this broker. A trailing * stands for any rest. */
static const char *const ignored[] = {
    "alter.config.policy.*", "authorizer.class.name", "auto.include.jmx.reporter",
    "background.threads", "broker.heartbeat.interval.ms", "broker.id.generation.enable", "broker.session.timeout.ms",
    "connection.failed.authentication.delay.ms", "connections.max.reauth.ms", "control.plane.listener.name",
    "controlled.shutdown.*", "controller.listener.names", "controller.performance.*", "controller.quorum.append.*",
    "controller.quorum.auto.*", "controller.quorum.election.*", "controller.quorum.fetch.*", "controller.quorum.request.*",
    "controller.quorum.retry.*",
    "controller.socket.timeout.ms", "create.topic.policy.*", "delegation.token.*", "early.start.listeners",
    "group.consumer.assignors", "group.consumer.assignor.*", "group.consumer.max.assignment.interval.ms",
    "group.consumer.max.heartbeat.interval.ms", "group.consumer.max.session.timeout.ms", "group.consumer.min.assignment.interval.ms",
    "group.consumer.min.heartbeat.interval.ms", "group.consumer.min.session.timeout.ms", "group.coordinator.*", "group.share.*",
    "group.streams.*", "initial.broker.registration.timeout.ms", "inter.broker.*", "kafka.metrics.*", "leader.imbalance.*",
    "listener.security.protocol.map", "log.cleaner.io.buffer.*", "log.cleaner.threads", "log.deletion.*", "log.dir.failure.timeout.ms",
    "log.flush.offset.checkpoint.interval.ms", "log.flush.scheduler.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms", "log.initial.task.delay.ms", "log.message.downconversion.enable",
    "log.message.format.version", "log.message.timestamp.difference.max.ms", "max.connection.creation.rate",
    "metadata.log.dir", "metadata.log.segment.*", "metadata.max.*", "metric.reporters", "metrics.*", "node.host.name",
    "num.io.threads", "num.network.threads", "num.recovery.threads.per.data.dir", "num.replica.alter.log.dirs.threads",
    "num.replica.fetchers", "offsets.commit.*", "offsets.load.buffer.size",
    "offsets.topic.compression.codec", "offsets.topic.replication.factor", "password.encoder.*", "principal.builder.class", "process.roles",
    "producer.id.expiration.check.interval.ms", "producer.purgatory.purge.interval.requests", "queued.max.requests",
    "quota.consumer.default", "quota.producer.default", "remote.*", "replica.fetch.*", "replica.high.watermark.*", "replica.lag.*",
    "replica.socket.*", "replication.quota.*", "reserved.broker.max.id", "sasl.*", "security.*",
    "server.max.startup.time.ms", "share.*", "socket.connection.setup.*", "socket.listen.backlog.size",
    "socket.receive.buffer.bytes", "socket.send.buffer.bytes", "ssl.*", "telemetry.*", "transaction.abort.*", "transaction.partition.*",
    "transaction.remove.*", "transaction.state.*", "transaction.two.*",
    "transactional.*", "unstable.*", "delete.records.purgatory.purge.interval.requests",
    "fetch.purgatory.purge.interval.requests", "zookeeper.*",
};

static bool pattern_matches(const char *pattern, struct str name) {
    size_t n = strlen(pattern), len = (size_t)name.len;
    if (n && pattern[n - 1] == '*') return len >= n - 1 && memcmp(pattern, name.p, n - 1) == 0;
    return n == len && memcmp(pattern, name.p, n) == 0;
}

bool config_is_ignored(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        if (pattern_matches(ignored[i], name)) return true;
    return false;
}

const struct config_key *config_find(struct str name) {
    size_t lo = 0, hi = ARRAY_LEN(table);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        size_t n = strlen(table[mid].name);
        int c = memcmp(table[mid].name, name.p, MIN(n, (size_t)name.len));
        if (c == 0) c = (n > (size_t)name.len) - (n < (size_t)name.len);
        if (c == 0) return &table[mid];
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    return NULL;
}

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b; lengths are bounded by the callers. */
#define NAME_MAX_BYTES 64
static unsigned edits(const char *a, size_t n, const char *b, size_t m) {
    unsigned rows[3][NAME_MAX_BYTES + 1];
    for (size_t j = 0; j <= m; j++) rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned best = up[j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN(best, MIN(up[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) best = MIN(best, up2[j - 2] + 1);
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

static void nearest_try(struct str name, const char *candidate, const char **best, unsigned *best_edits) {
    size_t n = strlen(candidate);
    if (n > NAME_MAX_BYTES || candidate[n - 1] == '*') return;
    unsigned e = edits(name.p, (size_t)name.len, candidate, n);
    if (e < *best_edits) {
        *best_edits = e;
        *best = candidate;
    }
}

const char *config_nearest(struct str name) {
    if (name.len <= 0 || name.len > NAME_MAX_BYTES) return NULL;
    const char *best = NULL;
    unsigned best_edits = (unsigned)name.len / 3 + 1; /* further away is no hint */
    for (size_t i = 0; i < ARRAY_LEN(table); i++) nearest_try(name, table[i].name, &best, &best_edits);
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++) nearest_try(name, ignored[i], &best, &best_edits);
    return best;
}
