/* image_records.h - records of the metadata log, applied to an edit of an image, for tests of images. They go through the includer's
 * apply(). */
#ifndef TESTS_UNIT_IMAGE_RECORDS_H
#define TESTS_UNIT_IMAGE_RECORDS_H
#include "proto/metadata.pb-c.h"
#include "server/image.h"

static enum err apply(struct image_edit *e, const Varve__Metadata__Record *r);

static inline struct uuid id_of(int32_t n) { return (struct uuid){{(uint8_t)n, 1, 2, 3}}; }
static inline ProtobufCBinaryData data_of(struct uuid *id) { return (ProtobufCBinaryData){sizeof id->b, id->b}; }

static inline enum err add_topic(struct image_edit *e, uint8_t n, const char *name) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Topic m = VARVE__METADATA__TOPIC__INIT;
    struct uuid id = id_of(n);
    m.id = data_of(&id);
    m.name = (char *)name;
    r.kind_case = VARVE__METADATA__RECORD__KIND_TOPIC;
    r.topic = &m;
    return apply(e, &r);
}
static inline enum err remove_topic(struct image_edit *e, uint8_t n) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__RemoveTopic m = VARVE__METADATA__REMOVE_TOPIC__INIT;
    struct uuid id = id_of(n);
    m.topic_id = data_of(&id);
    r.kind_case = VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC;
    r.remove_topic = &m;
    return apply(e, &r);
}

struct where { int32_t node; uint32_t life; char how; };   /* '+' adding, '-' removing */
enum { WHERE_MAX = 12 };
struct replicas { Varve__Metadata__Replica list[WHERE_MAX], *p[WHERE_MAX]; struct uuid incarnations[WHERE_MAX]; size_t n; };
/* Up to the first node 0. */
static inline void fill(struct replicas *out, const struct where *w) {
    for (out->n = 0; out->n < WHERE_MAX && w[out->n].node != 0; out->n++) {
        Varve__Metadata__Replica *m = out->p[out->n] = &out->list[out->n];
        varve__metadata__replica__init(m);
        m->node = w[out->n].node;
        m->life = w[out->n].life;
        m->adding = w[out->n].how == '+';
        m->removing = w[out->n].how == '-';
        out->incarnations[out->n] = id_of(m->node + 100);
        m->incarnation = data_of(&out->incarnations[out->n]);
    }
}
static inline enum err add_partition(struct image_edit *e, uint8_t topic, int32_t partition, uint64_t group, const struct where *w) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Partition m = VARVE__METADATA__PARTITION__INIT;
    struct uuid id = id_of(topic);
    struct replicas replicas;
    fill(&replicas, w);
    m.topic_id = data_of(&id);
    m.partition = partition;
    m.plid = group;
    m.at = replicas.p;
    m.n_at = replicas.n;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION;
    r.partition = &m;
    return apply(e, &r);
}
static inline enum err move(struct image_edit *e, uint8_t topic, int32_t partition, const struct where *w) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__PartitionReplicas m = VARVE__METADATA__PARTITION_REPLICAS__INIT;
    struct uuid id = id_of(topic);
    struct replicas replicas;
    fill(&replicas, w);
    m.topic_id = data_of(&id);
    m.partition = partition;
    m.replicas = replicas.p;
    m.n_replicas = replicas.n;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION_REPLICAS;
    r.partition_replicas = &m;
    return apply(e, &r);
}
static inline enum err register_broker(struct image_edit *e, int32_t node, uint8_t incarnation, const char *rack, int32_t port) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Broker m = VARVE__METADATA__BROKER__INIT;
    Varve__Metadata__Listener l = VARVE__METADATA__LISTENER__INIT, *listeners[] = {&l};
    struct uuid id = id_of(incarnation);
    l.name = (char *)"PLAINTEXT";
    l.host = (char *)"host";
    l.port = port;
    m.node = node;
    m.incarnation = data_of(&id);
    m.listeners = listeners;
    m.n_listeners = 1;
    m.peer_host = (char *)"peer";
    m.peer_port = 9192;
    m.rack = (char *)rack;
    m.version = (char *)"0.1";
    r.kind_case = VARVE__METADATA__RECORD__KIND_BROKER;
    r.broker = &m;
    return apply(e, &r);
}
static inline enum err drain(struct image_edit *e, int32_t node, bool drained) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Drain m = VARVE__METADATA__DRAIN__INIT;
    m.node = node;
    m.drained = drained;
    r.kind_case = VARVE__METADATA__RECORD__KIND_DRAIN;
    r.drain = &m;
    return apply(e, &r);
}
static inline enum err unregister(struct image_edit *e, int32_t node) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__RemoveBroker m = VARVE__METADATA__REMOVE_BROKER__INIT;
    m.node = node;
    r.kind_case = VARVE__METADATA__RECORD__KIND_REMOVE_BROKER;
    r.remove_broker = &m;
    return apply(e, &r);
}
static inline enum err quorum(struct image_edit *e, int32_t *nodes, size_t n) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__QuorumVoters m = VARVE__METADATA__QUORUM_VOTERS__INIT;
    m.nodes = nodes;
    m.n_nodes = n;
    r.kind_case = VARVE__METADATA__RECORD__KIND_QUORUM_VOTERS;
    r.quorum_voters = &m;
    return apply(e, &r);
}
#define AT(...) ((const struct where[WHERE_MAX + 1]){__VA_ARGS__})

static inline enum err set_config(struct image_edit *e, int32_t type, const char *name, const char *key, const char *value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Config m = VARVE__METADATA__CONFIG__INIT;
    m.resource_type = type;
    m.resource_name = (char *)name;
    m.key = (char *)key;
    m.value = (char *)(value ? value : "");
    m.removed = value == NULL;
    r.kind_case = VARVE__METADATA__RECORD__KIND_CONFIG;
    r.config = &m;
    return apply(e, &r);
}
static inline enum err set_next_id(struct image_edit *e, int64_t next) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ProducerIds m = VARVE__METADATA__PRODUCER_IDS__INIT;
    m.next = next;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PRODUCER_IDS;
    r.producer_ids = &m;
    return apply(e, &r);
}

static inline enum err set_feature(struct image_edit *e, const char *name, int32_t level) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Feature m = VARVE__METADATA__FEATURE__INIT;
    m.name = (char *)name;
    m.level = level;
    r.kind_case = VARVE__METADATA__RECORD__KIND_FEATURE;
    r.feature = &m;
    return apply(e, &r);
}

/* Of an entity of `type`, normally a user, and the default client id; 0 removes. */
static inline enum err set_quota(struct image_edit *e, const char *type, struct str name, const char *key, double value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ClientQuota m = VARVE__METADATA__CLIENT_QUOTA__INIT;
    Varve__Metadata__QuotaEntity user = VARVE__METADATA__QUOTA_ENTITY__INIT, client = VARVE__METADATA__QUOTA_ENTITY__INIT;
    Varve__Metadata__QuotaEntity *parts[] = {&user, &client};
    user.type = (char *)type;
    user.name = (ProtobufCBinaryData){(size_t)name.len, (uint8_t *)name.p}; /* any bytes */
    client.type = (char *)"client-id";
    client.is_default = true;
    m.entity = parts;
    m.n_entity = 2;
    m.key = (char *)key;
    m.value = value;
    m.removed = value == 0;
    r.kind_case = VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA;
    r.client_quota = &m;
    return apply(e, &r);
}
#endif
