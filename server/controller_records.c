/* controller_records.c - the records of a change while it is being made. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/crc32c.h"
#include "proto/metadata.pb-c.h"
#include "server/controller_impl.h"

const struct image *controller_edit_image(const struct controller_edit *e) { return controller_newest(e->controller); }
struct broker *controller_edit_broker(const struct controller_edit *e) { return e->controller->broker; }
uint64_t controller_edit_new_plid(struct controller_edit *e) {
    return log_store_new_plid(e->controller->broker->store);
}

void controller_edit_fail(struct controller_edit *e, enum err err) {
    if (!e->err) e->err = err;
}

/* A random (version 4) UUID; the zero one and those that Kafka reserves cannot come out. */
void controller_edit_new_uuid(struct controller_edit *e, struct uuid *out) {
    io_entropy(controller_reactor(e->controller)->io, out->b, sizeof out->b);
    out->b[6] = (uint8_t)((out->b[6] & 0x0f) | 0x40);
    out->b[8] = (uint8_t)((out->b[8] & 0x3f) | 0x80);
}

static enum err add(struct controller_edit *e, Varve__Metadata__Record *r) {
    if (e->err) return e->err;
    r->kept = e->kept;
    if (e->batch.record_count >= CONTROLLER_CHANGE_RECORDS_MAX) return e->err = ERR_FULL;
    size_t len = varve__metadata__record__get_packed_size(r);
    uint8_t small[1024], *packed = len <= sizeof small ? small : malloc(len);
    if (!packed) return e->err = ERR_NOMEM;
    varve__metadata__record__pack(r, packed);
    e->err = batch_builder_add(&e->batch, e->now_ms, BYTES_NULL, (struct bytes){packed, (int32_t)len}, NULL, 0);
    if (e->kept && !e->err) {
        e->crc = crc32c(e->crc, packed, len);
        e->pieces++;
    }
    if (packed != small) free(packed);
    return e->err;
}

/* A NUL-terminated copy; NULL sets the edit's error. */
static char *copy_text(struct controller_edit *e, struct str s) {
    char *z = malloc((size_t)s.len + 1);
    if (!z) {
        if (!e->err) e->err = ERR_NOMEM;
        return NULL;
    }
    if (s.len > 0) memcpy(z, s.p, (size_t)s.len);
    z[s.len] = 0;
    return z;
}

static ProtobufCBinaryData uuid_data(const struct uuid *id) {
    return (ProtobufCBinaryData){sizeof id->b, (uint8_t *)id->b};
}

enum err controller_add_topic(struct controller_edit *e, const struct uuid *id, struct str name) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Topic m = VARVE__METADATA__TOPIC__INIT;
    char *z = copy_text(e, name);
    if (!z) return e->err;
    e->grows = true;
    m.id = uuid_data(id);
    m.name = z;
    r.kind_case = VARVE__METADATA__RECORD__KIND_TOPIC;
    r.topic = &m;
    enum err err = add(e, &r);
    free(z);
    return err;
}

/* ---- replicas ---------------------------------------------------------------------------------- */

struct replica_list { Varve__Metadata__Replica list[IMAGE_REPLICAS_MAX], *p[IMAGE_REPLICAS_MAX]; };

static void list_replicas(struct replica_list *out, const struct image_replica *at, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        Varve__Metadata__Replica *m = out->p[i] = &out->list[i];
        varve__metadata__replica__init(m);
        m->node = at[i].node;
        m->life = at[i].life;
        m->adding = at[i].adding;
        m->removing = at[i].removing;
        if (!uuid_is_zero(&at[i].incarnation)) m->incarnation = uuid_data(&at[i].incarnation);
    }
}

/* As it is now. Zeros: a node that nobody knows. */
static struct uuid incarnation_of(const struct controller_edit *e, int32_t node) {
    const struct broker *b = e->controller->broker;
    const struct image_node *n = image_node(controller_edit_image(e), node);
    if (n) return n->incarnation;
    return node == b->config.node_id ? *log_store_incarnation(b->store) : (struct uuid){{0}};
}

enum err controller_add_partition(struct controller_edit *e, const struct uuid *topic, int32_t partition, const int32_t *replicas,
                                  int32_t replica_count) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Partition m = VARVE__METADATA__PARTITION__INIT;
    struct image_replica at[IMAGE_REPLICAS_MAX];
    struct replica_list list;
    ASSERT(replica_count >= 1 && replica_count <= IMAGE_REPLICAS_MAX);
    for (int32_t i = 0; i < replica_count; i++)
        at[i] = (struct image_replica){.node = replicas[i], .incarnation = incarnation_of(e, replicas[i])};
    list_replicas(&list, at, replica_count);
    m.topic_id = uuid_data(topic);
    m.partition = partition;
    m.plid = controller_edit_new_plid(e);
    m.at = list.p;
    m.n_at = (size_t)replica_count;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION;
    r.partition = &m;
    e->grows = true;
    return add(e, &r);
}

enum err controller_set_replicas(struct controller_edit *e, const struct uuid *topic, int32_t partition, const struct image_replica *at,
                                 int32_t count) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__PartitionReplicas m = VARVE__METADATA__PARTITION_REPLICAS__INIT;
    struct replica_list list;
    ASSERT(count >= 1 && count <= IMAGE_REPLICAS_MAX);
    list_replicas(&list, at, count);
    m.topic_id = uuid_data(topic);
    m.partition = partition;
    m.replicas = list.p;
    m.n_replicas = (size_t)count;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION_REPLICAS;
    r.partition_replicas = &m;
    return add(e, &r);
}

enum err controller_keep_partition(struct controller_edit *e, const struct image_topic *t, int32_t partition) {
    const struct image_partition *p = &t->partitions[partition];
    const struct image_replica *at = p->first ? p->first : p->at;
    int32_t count = p->first ? p->first_count : p->replica_count;
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Partition m = VARVE__METADATA__PARTITION__INIT;
    struct replica_list list;
    list_replicas(&list, at, count);
    m.topic_id = uuid_data(&t->id);
    m.partition = partition;
    m.plid = p->plid;
    m.at = list.p;
    m.n_at = (size_t)count;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION;
    r.partition = &m;
    e->kept = 1 + p->metadata_offset;
    return add(e, &r);
}

enum err controller_keep_replicas(struct controller_edit *e, const struct image_topic *t, int32_t partition) {
    const struct image_partition *p = &t->partitions[partition];
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__PartitionReplicas m = VARVE__METADATA__PARTITION_REPLICAS__INIT;
    struct replica_list list;
    list_replicas(&list, p->at, p->replica_count);
    for (int32_t i = 0; i < p->replica_count; i++) list.list[i].assigned = p->at[i].metadata_offset;
    m.topic_id = uuid_data(&t->id);
    m.partition = partition;
    m.replicas = list.p;
    m.n_replicas = (size_t)p->replica_count;
    m.lives = p->lives;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PARTITION_REPLICAS;
    r.partition_replicas = &m;
    e->kept = 1 + p->replicas_offset;
    return add(e, &r);
}

/* ---- brokers ------------------------------------------------------------------------------------ */

enum err controller_set_broker(struct controller_edit *e, const struct image_node *node) {
    enum { LISTENERS_MAX = 16 };
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Broker m = VARVE__METADATA__BROKER__INIT;
    Varve__Metadata__Listener list[LISTENERS_MAX], *p[LISTENERS_MAX];
    if (node->listener_count > LISTENERS_MAX) return e->err ? e->err : (e->err = ERR_INVALID);
    for (uint32_t i = 0; i < node->listener_count; i++) {
        p[i] = &list[i];
        varve__metadata__listener__init(p[i]);
        list[i].name = node->listeners[i].name;
        list[i].host = node->listeners[i].host;
        list[i].port = node->listeners[i].port;
    }
    m.node = node->node;
    m.incarnation = uuid_data(&node->incarnation);
    m.listeners = p;
    m.n_listeners = node->listener_count;
    m.peer_host = node->peer_host;
    m.peer_port = node->peer_port;
    m.rack = node->rack;
    m.version = node->version;
    r.kind_case = VARVE__METADATA__RECORD__KIND_BROKER;
    r.broker = &m;
    return add(e, &r);
}

enum err controller_remove_broker(struct controller_edit *e, int32_t node) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__RemoveBroker m = VARVE__METADATA__REMOVE_BROKER__INIT;
    m.node = node;
    r.kind_case = VARVE__METADATA__RECORD__KIND_REMOVE_BROKER;
    r.remove_broker = &m;
    return add(e, &r);
}

enum err controller_set_drained(struct controller_edit *e, int32_t node, bool drained) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Drain m = VARVE__METADATA__DRAIN__INIT;
    m.node = node;
    m.drained = drained;
    r.kind_case = VARVE__METADATA__RECORD__KIND_DRAIN;
    r.drain = &m;
    return add(e, &r);
}

enum err controller_set_quorum(struct controller_edit *e, const int32_t *nodes, uint32_t count) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__QuorumVoters m = VARVE__METADATA__QUORUM_VOTERS__INIT;
    m.nodes = (int32_t *)nodes;
    m.n_nodes = count;
    r.kind_case = VARVE__METADATA__RECORD__KIND_QUORUM_VOTERS;
    r.quorum_voters = &m;
    return add(e, &r);
}

/* ---- the rest ------------------------------------------------------------------------------------ */

enum err controller_remove_topic(struct controller_edit *e, const struct uuid *topic) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__RemoveTopic m = VARVE__METADATA__REMOVE_TOPIC__INIT;
    m.topic_id = uuid_data(topic);
    r.kind_case = VARVE__METADATA__RECORD__KIND_REMOVE_TOPIC;
    r.remove_topic = &m;
    return add(e, &r);
}

enum err controller_set_config(struct controller_edit *e, int8_t resource_type, struct str resource_name,
                               struct str key,
                               struct str value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Config m = VARVE__METADATA__CONFIG__INIT;
    char *name = copy_text(e, resource_name), *k = copy_text(e, key), *v = copy_text(e, value);
    if (name && k && v) {
        m.resource_type = resource_type;
        m.resource_name = name;
        m.key = k;
        m.value = v;
        m.removed = value.p == NULL;
        r.kind_case = VARVE__METADATA__RECORD__KIND_CONFIG;
        r.config = &m;
        add(e, &r);
    }
    free(name);
    free(k);
    free(v);
    return e->err;
}

enum err controller_set_next_producer_id(struct controller_edit *e, int64_t next) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ProducerIds m = VARVE__METADATA__PRODUCER_IDS__INIT;
    m.next = next;
    e->grows = true;
    r.kind_case = VARVE__METADATA__RECORD__KIND_PRODUCER_IDS;
    r.producer_ids = &m;
    return add(e, &r);
}

enum err controller_set_feature(struct controller_edit *e, const struct feature *feature, int16_t level) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__Feature m = VARVE__METADATA__FEATURE__INIT;
    m.name = (char *)feature->name;
    m.level = level;
    r.kind_case = VARVE__METADATA__RECORD__KIND_FEATURE;
    r.feature = &m;
    return add(e, &r);
}

enum err controller_set_quota(struct controller_edit *e, const struct quota_entity *entity, const char *key, double value) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__ClientQuota m = VARVE__METADATA__CLIENT_QUOTA__INIT;
    Varve__Metadata__QuotaEntity parts[QUOTA_TYPES], *list[QUOTA_TYPES];
    m.entity = list;
    for (int t = 0; t < QUOTA_TYPES; t++) {
        if (!entity->has[t]) continue;
        Varve__Metadata__QuotaEntity *part = list[m.n_entity] = &parts[m.n_entity];
        m.n_entity++;
        varve__metadata__quota_entity__init(part);
        part->type = (char *)quota_type_name((enum quota_type)t);
        part->is_default = entity->name[t].p == NULL;
        if (!part->is_default) part->name = (ProtobufCBinaryData){(size_t)entity->name[t].len, (uint8_t *)entity->name[t].p};
    }
    m.key = (char *)key;
    m.value = value;
    m.removed = value == 0;
    r.kind_case = VARVE__METADATA__RECORD__KIND_CLIENT_QUOTA;
    r.client_quota = &m;
    return add(e, &r);
}

/* ---- snapshots ----------------------------------------------------------------------------------- */

enum err controller_begin_snapshot(struct controller_edit *e, uint64_t groups_end) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__SnapshotBegin m = VARVE__METADATA__SNAPSHOT_BEGIN__INIT;
    m.groups_end = groups_end;
    r.kind_case = VARVE__METADATA__RECORD__KIND_SNAPSHOT_BEGIN;
    r.snapshot_begin = &m;
    e->kept = 0;
    return add(e, &r);
}

enum err controller_end_snapshot(struct controller_edit *e, uint64_t begin) {
    Varve__Metadata__Record r = VARVE__METADATA__RECORD__INIT;
    Varve__Metadata__SnapshotEnd m = VARVE__METADATA__SNAPSHOT_END__INIT;
    m.begin = begin;
    m.pieces = e->pieces;
    m.crc = e->crc;
    r.kind_case = VARVE__METADATA__RECORD__KIND_SNAPSHOT_END;
    r.snapshot_end = &m;
    e->kept = 0;
    return add(e, &r);
}
