/* api_nodes.c - see api_nodes.h. */
#include "server/api_nodes.h"
#include "server/peer.h"

static const struct image_listener *listener_named(const struct image_node *n, const char *name) {
    for (uint32_t i = 0; i < n->listener_count; i++)
        if (strcmp(n->listeners[i].name, name) == 0) return &n->listeners[i];
    return NULL;
}

static void fill_other(struct request *rq, struct api_node *out, const struct image_node *n) {
    const struct image_listener *l = listener_named(n, request_listener(rq));
    out->id = n->node;
    out->up = peer_is_well(rq->reactor, n->node);
    out->host = l ? request_copy(rq, str_from(l->host)) : STR_NULL;
    out->port = l ? l->port : -1;
    out->rack = n->rack[0] ? request_copy(rq, str_from(n->rack)) : STR_NULL;
}

static void fill_self(struct request *rq, struct api_node *out) {
    const struct broker *b = request_broker(rq);
    out->id = b->config.node_id;
    out->up = true;
    request_advertised(rq, &out->host, &out->port);
    out->rack = str_from(b->config.broker_rack);
}

bool api_nodes_try(struct request *rq, struct api_nodes *out) {
    const struct image *im = request_image(rq);
    int32_t self = request_broker(rq)->config.node_id;
    bool done = false;
    out->count = 0;
    out->list = arena_array(&rq->arena, (size_t)im->node_count + 1, sizeof *out->list);
    if (!out->list) return false;
    for (uint32_t i = 0; i < im->node_count; i++) {
        if (!done && im->nodes[i].node >= self) {
            fill_self(rq, &out->list[out->count++]);
            done = true;
        }
        if (im->nodes[i].node != self) fill_other(rq, &out->list[out->count++], &im->nodes[i]);
    }
    if (!done) fill_self(rq, &out->list[out->count++]);
    return true;
}

bool api_nodes_get(struct request *rq, struct api_nodes *out) {
    if (api_nodes_try(rq, out)) return true;
    request_close(rq, "the request needs more memory than request.arena.max.bytes");
    return false;
}

void api_nodes_look(const struct request *rq, struct api_nodes *n) {
    for (int32_t i = 0; i < n->count; i++) n->list[i].up = peer_is_well(rq->reactor, n->list[i].id);
}

const struct api_node *api_nodes_find(const struct api_nodes *n, int32_t id) {
    for (int32_t i = 0; i < n->count; i++)
        if (n->list[i].id == id) return &n->list[i];
    return NULL;
}

struct api_leader api_leader_of(const struct api_nodes *n, const struct leader_info *info) {
    struct api_leader l = {info->leader, info->epoch, KERR_NONE};
    const struct api_node *node = info->leader >= 0 ? api_nodes_find(n, info->leader) : NULL;
    if (!node || !node->up) l.error = KERR_LEADER_NOT_AVAILABLE;
    else if (!node->host.p) l.error = KERR_LISTENER_NOT_FOUND;
    if (l.error) l.id = -1;
    return l;
}

static bool is_up(const struct api_nodes *n, int32_t id) {
    const struct api_node *node = api_nodes_find(n, id);
    return node && node->up;
}

static bool votes_in_sync(const struct leader_info *info, int32_t id) {
    for (uint8_t i = 0; i < info->voters; i++)
        if (info->members[i] == id) return info->in_sync >> i & 1;
    return false;
}

int32_t api_in_sync(const struct api_nodes *n, const struct leader_info *info, const int32_t *replicas, int32_t count, int32_t *out) {
    bool led = api_leader_of(n, info).error != KERR_LEADER_NOT_AVAILABLE, known = info->count > 0;
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        bool in_sync = !known || votes_in_sync(info, replicas[i]) || (led && replicas[i] == info->leader);
        if (in_sync && ((led && known) || is_up(n, replicas[i]))) out[kept++] = replicas[i];
    }
    if (kept == 0 && count > 0) {
        int32_t last = replicas[0];
        for (int32_t i = count - 1; i >= 0; i--)
            if (replicas[i] == info->leader || votes_in_sync(info, replicas[i])) last = replicas[i];
        out[kept++] = last;
    }
    return kept;
}

int32_t api_offline(const struct api_nodes *n, const int32_t *replicas, int32_t count, int32_t *out) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++)
        if (!is_up(n, replicas[i])) out[kept++] = replicas[i];
    return kept;
}
