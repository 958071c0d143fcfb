/* peer_wire.c - see peer_wire.h. */
#define XXH_STATIC_LINKING_ONLY /* XXH3_state_t on the stack */
#include "server/peer_wire.h"
#include <stdlib.h>
#include "base/assert.h"
#include "log/log.h"
#include "log/xxh3.h"
#include "proto/peer.pb-c.h"

/* A field that was added to these must travel too. */
STATIC_ASSERT(sizeof(struct replica_message) == 488);
STATIC_ASSERT(sizeof(struct leader_info) == 72); /* since_ns does not */

/* ---- the head ---------------------------------------------------------------------------------- */

static const uint8_t magic[4] = {0xf6, 'V', 'P', '1'};

void peer_head_write(uint8_t head[PEER_HEAD_BYTES], uint32_t header_bytes, uint32_t body_bytes) {
    memset(head, 0, PEER_HEAD_BYTES);
    memcpy(head, magic, sizeof magic);
    store_le32(head + 4, header_bytes);
    store_le32(head + 8, body_bytes);
}

bool peer_head_read(const uint8_t head[PEER_HEAD_BYTES], struct peer_head *out) {
    *out = (struct peer_head){load_le32(head + 4), load_le32(head + 8), load_le64(head + 16)};
    return memcmp(head, magic, sizeof magic) == 0 && load_le32(head + 12) == 0;
}

uint64_t peer_checksum(const uint8_t head[PEER_HEAD_BYTES], const struct iovec *rest, size_t count) {
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, head, PEER_HEAD_BYTES - 8);
    for (size_t i = 0; i < count; i++) XXH3_64bits_update(&state, rest[i].iov_base, rest[i].iov_len);
    return XXH3_64bits_digest(&state);
}

/* ---- writing ----------------------------------------------------------------------------------- */

static bool header_reserve(struct peer_header *h, size_t more) {
    if (h->cap - h->len >= more) return true;
    size_t cap = MAX((size_t)h->cap * 2, MAX((size_t)1024, h->len + more));
    uint8_t *bytes = realloc(h->bytes, cap);
    if (!bytes) return false;
    h->bytes = bytes;
    h->cap = (uint32_t)cap;
    return true;
}

static uint32_t varint(uint8_t *out, uint64_t v) {
    uint32_t n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

/* One field of a Frame. Fields behind each other are the same as packing the whole. */
static bool field_add(struct peer_header *h, uint32_t number, const ProtobufCMessage *m) {
    size_t size = protobuf_c_message_get_packed_size(m);
    if (size > PEER_PART_BYTES || !header_reserve(h, size + 12)) return false;
    h->len += varint(h->bytes + h->len, number << 3 | 2);
    h->len += varint(h->bytes + h->len, size);
    h->len += (uint32_t)protobuf_c_message_pack(m, h->bytes + h->len);
    return true;
}

bool peer_hello_encode(struct peer_header *h, const struct peer_hello *hello) {
    Varve__Peer__Hello m = VARVE__PEER__HELLO__INIT;
    m.version_min = hello->version_min;
    m.version_max = hello->version_max;
    m.node = hello->node;
    m.incarnation = (ProtobufCBinaryData){16, (uint8_t *)hello->incarnation.b};
    if (!uuid_is_zero(&hello->cluster_id)) m.cluster_id = (ProtobufCBinaryData){16, (uint8_t *)hello->cluster_id.b};
    m.wanted = hello->wanted;
    m.reactor = hello->reactor;
    m.reactors = hello->reactors;
    if (hello->refused[0]) m.refused = (char *)hello->refused;
    m.refusal = hello->refusal;
    m.process = hello->process;
    m.host = (char *)hello->host;
    m.port = hello->port;
    return field_add(h, 1, &m.base);
}

static Varve__Peer__Position position(struct replica_position p) {
    Varve__Peer__Position m = VARVE__PEER__POSITION__INIT;
    m.epoch = p.epoch;
    m.offset = p.offset;
    return m;
}

static bool is_zero(struct replica_position p) { return p.epoch == 0 && p.offset == 0; }

struct replica_parts {
    Varve__Peer__Replica m;
    Varve__Peer__Config config;
    Varve__Peer__Member members[REPLICA_MEMBERS_MAX], *member_at[REPLICA_MEMBERS_MAX];
    Varve__Peer__Position last, prev, match, markers[REPLICA_MESSAGE_MARKERS_MAX], *marker_at[REPLICA_MESSAGE_MARKERS_MAX];
};

static void config_fill(struct replica_parts *s, const struct replica_config *c) {
    s->config = (Varve__Peer__Config)VARVE__PEER__CONFIG__INIT;
    s->config.epoch = c->id.epoch;
    s->config.version = c->id.version;
    s->config.voters = c->voters;
    s->config.n_members = c->count;
    s->config.members = s->member_at;
    for (uint32_t i = 0; i < c->count; i++) {
        s->members[i] = (Varve__Peer__Member)VARVE__PEER__MEMBER__INIT;
        s->members[i].node = c->members[i].node;
        s->members[i].incarnation = (ProtobufCBinaryData){16, (uint8_t *)c->members[i].incarnation.b};
        s->member_at[i] = &s->members[i];
    }
    s->m.config = &s->config;
}

static void replica_fill(struct replica_parts *s, const struct peer_part *p) {
    const struct replica_message *r = &p->u.replica;
    ASSERT(r->config.count <= REPLICA_MEMBERS_MAX && r->marker_count <= REPLICA_MESSAGE_MARKERS_MAX);
    s->m = (Varve__Peer__Replica)VARVE__PEER__REPLICA__INIT;
    s->m.group = p->group;
    s->m.from_life = p->from_life;
    s->m.to_life = p->to_life;
    s->m.kind = (uint32_t)r->kind;
    s->m.epoch = r->epoch;
    s->m.asked_epoch = r->asked_epoch;
    s->m.transfer = r->transfer;
    s->m.ok = r->ok;
    s->m.session = r->session;
    s->m.round = r->round;
    s->m.end_offset = r->end_offset;
    s->m.high_watermark = r->high_watermark;
    s->m.established = r->established;
    s->m.quiet = r->quiet;
    s->m.waits = r->waits;
    s->m.start = r->start;
    s->last = position(r->last);
    s->prev = position(r->prev);
    s->match = position(r->match);
    if (!is_zero(r->last)) s->m.last = &s->last;
    if (!is_zero(r->prev)) s->m.prev = &s->prev;
    if (!is_zero(r->match)) s->m.match = &s->match;
    s->m.n_markers = r->marker_count;
    s->m.markers = s->marker_at;
    for (uint32_t i = 0; i < r->marker_count; i++) {
        s->markers[i] = position((struct replica_position){r->markers[i].epoch, r->markers[i].start});
        s->marker_at[i] = &s->markers[i];
    }
    if (r->config.count > 0 || r->config.id.epoch != 0 || r->config.id.version != 0) config_fill(s, &r->config);
}

static void leader_fill(Varve__Peer__Leader *m, uint64_t group, const struct leader_info *info, int32_t members[LEADER_MEMBERS_MAX]) {
    ASSERT(info->count <= LEADER_MEMBERS_MAX);
    *m = (Varve__Peer__Leader)VARVE__PEER__LEADER__INIT;
    m->group = group;
    m->epoch = info->epoch;
    m->leader = info->leader;
    m->version = info->version;
    m->established = info->established;
    m->voters = info->voters;
    m->in_sync = info->in_sync;
    m->n_members = info->count;
    m->members = members;
    memcpy(members, info->members, info->count * sizeof *members);
}

bool peer_part_encode(struct peer_header *h, const struct peer_part *p) {
    Varve__Peer__Part m = VARVE__PEER__PART__INIT;
    struct replica_parts replica;
    Varve__Peer__Leader leader;
    Varve__Peer__Call call = VARVE__PEER__CALL__INIT;
    int32_t members[LEADER_MEMBERS_MAX];
    m.body = p->body_bytes;
    switch (p->kind) {
    case PEER_PART_REPLICA:
        replica_fill(&replica, p);
        m.kind_case = VARVE__PEER__PART__KIND_REPLICA;
        m.replica = &replica.m;
        break;
    case PEER_PART_LEADER:
        leader_fill(&leader, p->group, &p->u.leader, members);
        m.kind_case = VARVE__PEER__PART__KIND_LEADER;
        m.leader = &leader;
        break;
    case PEER_PART_CALL:
    case PEER_PART_ANSWER:
        call.id = p->u.call.id;
        call.kind = p->u.call.kind;
        call.total = p->u.call.total;
        call.at = p->u.call.at;
        call.timeout_ms = p->u.call.timeout_ms;
        call.error = (uint32_t)p->u.call.error;
        m.kind_case = p->kind == PEER_PART_CALL ? VARVE__PEER__PART__KIND_CALL : VARVE__PEER__PART__KIND_ANSWER;
        m.call = &call; /* the union's members are all pointers */
        break;
    case PEER_PART_PING:
        m.kind_case = VARVE__PEER__PART__KIND_PING;
        m.ping = p->u.ping;
        m.disk = p->disk;
        m.wall_ms = p->wall_ms;
        break;
    case PEER_PART_PONG:
        m.kind_case = VARVE__PEER__PART__KIND_PONG;
        m.pong = p->u.ping;
        break;
    case PEER_PART_BEAT:
        m.kind_case = VARVE__PEER__PART__KIND_BEAT;
        m.beat = true;
        break;
    }
    return field_add(h, 2, &m.base);
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* protobuf-c asks here for all memory: what a small header could blow up to is bounded by the arena. */
static void *unpack_alloc(void *data, size_t size) { return arena_alloc(data, size); }
static void unpack_free(void *data, void *pointer) { (void)data, (void)pointer; }

static Varve__Peer__Frame *frame_unpack(struct arena *arena, const uint8_t *header, uint32_t len) {
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, arena};
    return varve__peer__frame__unpack(&allocator, len, header);
}

static bool uuid_read(const ProtobufCBinaryData *from, struct uuid *out) {
    if (from->len != sizeof out->b) return false;
    memcpy(out->b, from->data, sizeof out->b);
    return true;
}

enum err peer_hello_decode(struct arena *arena, const uint8_t *header, uint32_t len, struct peer_hello *out) {
    Varve__Peer__Frame *f = frame_unpack(arena, header, len);
    memset(out, 0, sizeof *out);
    if (!f || !f->hello || f->n_parts > 0) return ERR_CORRUPT;
    const Varve__Peer__Hello *m = f->hello;
    out->version_min = m->version_min;
    out->version_max = m->version_max;
    out->node = m->node;
    out->wanted = m->wanted;
    out->reactor = m->reactor;
    out->reactors = m->reactors;
    out->process = m->process;
    if (m->port > UINT16_MAX || strlen(m->host) >= sizeof out->host) return ERR_CORRUPT;
    for (const char *c = m->host; *c; c++) /* it gets into lines for people */
        if (*c <= ' ' || *c >= 127) return ERR_CORRUPT;
    out->port = (uint16_t)m->port;
    strcpy(out->host, m->host);
    if (m->node < 0 || !uuid_read(&m->incarnation, &out->incarnation)) return ERR_CORRUPT;
    if (m->cluster_id.len > 0 && !uuid_read(&m->cluster_id, &out->cluster_id)) return ERR_CORRUPT;
    if (m->refused) { /* shown to people: one line of printable characters */
        for (size_t i = 0; m->refused[i] && i + 1 < sizeof out->refused; i++)
            out->refused[i] = m->refused[i] >= ' ' && m->refused[i] < 127 ? m->refused[i] : '?';
    }
    if (out->refused[0]) out->refusal = m->refusal > PEER_NOT_REFUSED && m->refusal < PEER_REFUSALS ? (enum peer_refusal)m->refusal : PEER_REFUSED_OTHER;
    return OK;
}

static struct replica_position position_read(const Varve__Peer__Position *m) {
    return m ? (struct replica_position){m->epoch, m->offset} : (struct replica_position){0, 0};
}

static bool config_read(const Varve__Peer__Config *m, struct replica_config *out) {
    if (!m) return true;
    if (m->n_members > REPLICA_MEMBERS_MAX || m->voters > m->n_members) return false;
    out->id = (struct replica_config_id){m->epoch, m->version};
    out->voters = (uint8_t)m->voters;
    out->count = (uint8_t)m->n_members;
    for (size_t i = 0; i < m->n_members; i++) {
        out->members[i].node = m->members[i]->node;
        if (!uuid_read(&m->members[i]->incarnation, &out->members[i].incarnation)) return false;
    }
    return true;
}

static bool replica_read(const Varve__Peer__Replica *m, struct replica_message *out) {
    if (m->kind > REPLICA_TIMEOUT_NOW || m->n_markers > REPLICA_MESSAGE_MARKERS_MAX || !config_read(m->config, &out->config)) return false;
    out->kind = (enum replica_message_kind)m->kind;
    out->epoch = m->epoch;
    out->asked_epoch = m->asked_epoch;
    out->last = position_read(m->last);
    out->transfer = m->transfer;
    out->ok = m->ok;
    out->session = m->session;
    out->round = m->round;
    out->prev = position_read(m->prev);
    out->marker_count = (uint32_t)m->n_markers;
    for (size_t i = 0; i < m->n_markers; i++)
        out->markers[i] = (struct replica_marker){m->markers[i]->epoch, m->markers[i]->offset};
    out->end_offset = m->end_offset;
    out->high_watermark = m->high_watermark;
    out->established = m->established;
    out->quiet = m->quiet;
    out->waits = m->waits;
    out->start = m->start;
    out->match = position_read(m->match);
    return replica_message_is_valid(out);
}

static bool leader_read(const Varve__Peer__Leader *m, struct leader_info *out) {
    if (m->n_members > LEADER_MEMBERS_MAX || m->voters > m->n_members || m->epoch < 0 || m->leader < -1) return false;
    if (m->in_sync >> m->n_members) return false;
    out->epoch = m->epoch;
    out->leader = m->leader;
    out->version = m->version;
    out->established = m->established;
    out->voters = (uint8_t)m->voters;
    out->count = (uint8_t)m->n_members;
    out->in_sync = (uint16_t)m->in_sync;
    if (m->n_members > 0) memcpy(out->members, m->members, m->n_members * sizeof *out->members);
    return true;
}

static bool call_read(const Varve__Peer__Call *m, struct peer_part *p) {
    if (m->error >= ERR_COUNT || m->at > m->total || p->body_bytes > m->total - m->at) return false;
    if (m->total > 0 && p->body_bytes == 0) return false; /* pieces get on */
    p->u.call.id = m->id;
    p->u.call.kind = m->kind;
    p->u.call.total = m->total;
    p->u.call.at = m->at;
    p->u.call.timeout_ms = m->timeout_ms;
    p->u.call.error = (enum err)m->error;
    return true;
}

static bool part_read(const Varve__Peer__Part *m, struct peer_part *p) {
    p->body_bytes = m->body;
    switch (m->kind_case) {
    case VARVE__PEER__PART__KIND_REPLICA:
        p->kind = PEER_PART_REPLICA;
        p->group = m->replica->group;
        p->from_life = m->replica->from_life;
        p->to_life = m->replica->to_life;
        if (p->from_life >= REPLICA_LIVES_MAX || p->to_life >= REPLICA_LIVES_MAX) return false;
        if (m->body > 0 && m->replica->kind != REPLICA_APPEND && m->replica->kind != REPLICA_INSTALL_START) return false;
        return replica_read(m->replica, &p->u.replica) && p->group >> LOG_GROUP_BITS == 0;
    case VARVE__PEER__PART__KIND_LEADER:
        p->kind = PEER_PART_LEADER;
        p->group = m->leader->group;
        return m->body == 0 && leader_read(m->leader, &p->u.leader) && p->group >> LOG_GROUP_BITS == 0;
    case VARVE__PEER__PART__KIND_CALL: p->kind = PEER_PART_CALL; return call_read(m->call, p);
    case VARVE__PEER__PART__KIND_ANSWER: p->kind = PEER_PART_ANSWER; return call_read(m->answer, p);
    case VARVE__PEER__PART__KIND_PING:
        p->kind = PEER_PART_PING;
        p->u.ping = m->ping;
        p->disk = (enum peer_disk)MIN(m->disk, (uint32_t)PEER_DISK_STUCK);
        p->wall_ms = m->wall_ms;
        return m->body == 0;
    case VARVE__PEER__PART__KIND_PONG: p->kind = PEER_PART_PONG; p->u.ping = m->pong; return m->body == 0;
    case VARVE__PEER__PART__KIND_BEAT: p->kind = PEER_PART_BEAT; return m->body == 0;
    default: return false;
    }
}

enum err peer_frame_decode(struct arena *arena, const uint8_t *header, uint32_t len, uint32_t body_bytes, struct peer_part **parts,
                           uint32_t *count) {
    struct arena tree; /* protobuf's own form, gone at the end */
    enum err err = ERR_CORRUPT;
    uint64_t body = 0;
    *parts = NULL;
    *count = 0;
    arena_init(&tree, PEER_ARENA_BYTES);
    Varve__Peer__Frame *f = frame_unpack(&tree, header, len);
    if (!f || f->hello || f->n_parts == 0) goto out;
    err = ERR_NOMEM;
    struct peer_part *list = arena_array(arena, f->n_parts, sizeof *list);
    if (!list) goto out;
    err = ERR_CORRUPT;
    for (size_t i = 0; i < f->n_parts; i++) {
        list[i].body_at = (uint32_t)body;
        body += f->parts[i]->body;
        if (body > body_bytes || !part_read(f->parts[i], &list[i])) goto out;
    }
    if (body != body_bytes) goto out;
    *parts = list;
    *count = (uint32_t)f->n_parts;
    err = OK;
out:
    arena_free(&tree);
    return err;
}
