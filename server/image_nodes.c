/* image_nodes.c - registered brokers, drained ones, and who votes for the metadata log. */
#include "server/image_impl.h"

enum { LISTENERS_MAX = 16, TEXT_BYTES_MAX = 255 };

/* Where `node` is or belongs. */
static uint32_t node_position(const struct image *im, int32_t node) {
    uint32_t low = 0, high = im->node_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (im->nodes[mid].node < node) low = mid + 1;
        else high = mid;
    }
    return low;
}

static struct image_node *find_node(const struct image *im, int32_t node) {
    uint32_t at = node_position(im, node);
    return at < im->node_count && im->nodes[at].node == node ? &im->nodes[at] : NULL;
}

const struct image_node *image_node(const struct image *im, int32_t node) { return find_node(im, node); }

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void node_clear(struct image_node *n) {
    for (uint32_t i = 0; i < n->listener_count; i++) {
        free(n->listeners[i].name);
        free(n->listeners[i].host);
    }
    free(n->listeners);
    free(n->peer_host);
    free(n->rack);
    free(n->version);
}

void image_nodes_free(struct image_node *nodes, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) node_clear(&nodes[i]);
    free(nodes);
}

/* False: memory; what is there is freed by node_clear(). */
static bool node_copy(struct image_node *to, const struct image_node *from) {
    *to = *from;
    to->listeners = calloc(MAX(from->listener_count, 1u), sizeof *to->listeners);
    to->listener_count = to->listeners ? from->listener_count : 0;
    to->peer_host = strdup(from->peer_host);
    to->rack = strdup(from->rack);
    to->version = strdup(from->version);
    bool whole = to->listeners && to->peer_host && to->rack && to->version;
    for (uint32_t i = 0; i < to->listener_count; i++) {
        to->listeners[i] = (struct image_listener){strdup(from->listeners[i].name), strdup(from->listeners[i].host), from->listeners[i].port};
        whole = whole && to->listeners[i].name && to->listeners[i].host;
    }
    return whole;
}

/* The list as this edit may change it, with room for one more. False: memory. */
static bool nodes_own(struct image_edit *e) {
    struct image *im = e->next;
    if (im->nodes_edition == im->edition) {
        struct image_node *grown = realloc(im->nodes, (im->node_count + 1) * sizeof *grown);
        if (grown) im->nodes = grown;
        return grown != NULL;
    }
    struct image_node *copy = calloc(im->node_count + 1, sizeof *copy);
    bool whole = copy != NULL;
    uint32_t n = 0;
    while (whole && n < im->node_count) {
        whole = node_copy(&copy[n], &im->nodes[n]);
        n++;
    }
    if (!whole) {
        if (copy) image_nodes_free(copy, n);
        return false;
    }
    im->nodes = copy;
    im->nodes_edition = im->edition;
    return true;
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

static bool text_fits(const char *s) { return strlen(s) <= TEXT_BYTES_MAX; }
static bool port_fits(int32_t port) { return port >= 0 && port <= 65535; }

/* `listeners` has room for LISTENERS_MAX; what `out` points to is the record's. */
static bool node_from(struct image_node *out, struct image_listener *listeners, const Varve__Metadata__Broker *m) {
    if (m->node < 0 || m->n_listeners > LISTENERS_MAX || !port_fits(m->peer_port)) return false;
    if (!text_fits(m->peer_host) || !text_fits(m->rack) || !text_fits(m->version)) return false;
    *out = (struct image_node){
        .node = m->node, .listeners = listeners, .listener_count = (uint32_t)m->n_listeners, .peer_host = m->peer_host,
        .peer_port = m->peer_port, .rack = m->rack, .version = m->version,
    };
    for (size_t i = 0; i < m->n_listeners; i++) {
        const Varve__Metadata__Listener *l = m->listeners[i];
        if (!text_fits(l->name) || !text_fits(l->host) || !port_fits(l->port)) return false;
        listeners[i] = (struct image_listener){l->name, l->host, l->port};
    }
    return image_uuid_from(&m->incarnation, &out->incarnation);
}

enum err image_apply_broker(struct image_edit *e, uint64_t metadata_offset, const Varve__Metadata__Broker *m) {
    struct image *im = e->next;
    struct image_node from, copy;
    struct image_listener listeners[LISTENERS_MAX];
    if (!node_from(&from, listeners, m)) return ERR_CORRUPT;
    const struct image_node *known = find_node(im, m->node);
    bool was = known != NULL;
    from.metadata_offset = metadata_offset;
    from.drained = was && known->drained;
    if (!nodes_own(e)) return ERR_NOMEM;
    if (!node_copy(&copy, &from)) {
        node_clear(&copy);
        return ERR_NOMEM;
    }
    uint32_t at = node_position(im, m->node);
    if (was) {
        node_clear(&im->nodes[at]);
    } else {
        memmove(&im->nodes[at + 1], &im->nodes[at], (im->node_count - at) * sizeof *im->nodes);
        im->node_count++;
    }
    im->nodes[at] = copy;
    return OK;
}

enum err image_apply_remove_broker(struct image_edit *e, const Varve__Metadata__RemoveBroker *m) {
    struct image *im = e->next;
    if (!find_node(im, m->node)) return ERR_CORRUPT;
    if (!nodes_own(e)) return ERR_NOMEM;
    uint32_t at = node_position(im, m->node);
    node_clear(&im->nodes[at]);
    im->node_count--;
    memmove(&im->nodes[at], &im->nodes[at + 1], (im->node_count - at) * sizeof *im->nodes);
    return OK;
}

enum err image_apply_drain(struct image_edit *e, const Varve__Metadata__Drain *m) {
    if (!find_node(e->next, m->node)) return ERR_CORRUPT;
    if (!nodes_own(e)) return ERR_NOMEM;
    find_node(e->next, m->node)->drained = m->drained;
    return OK;
}

enum err image_apply_quorum(struct image_edit *e, const Varve__Metadata__QuorumVoters *m) {
    struct image *im = e->next;
    if (m->n_nodes == 0 || m->n_nodes > IMAGE_REPLICAS_MAX) return ERR_CORRUPT;
    for (size_t i = 0; i < m->n_nodes; i++)
        if (m->nodes[i] < 0 || (i > 0 && m->nodes[i] <= m->nodes[i - 1])) return ERR_CORRUPT;
    memcpy(im->quorum_voters, m->nodes, m->n_nodes * sizeof *im->quorum_voters);
    im->quorum_voter_count = (uint32_t)m->n_nodes;
    return OK;
}
