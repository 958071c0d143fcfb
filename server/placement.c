#include "server/placement.h"
#include "base/assert.h"
#include "server/image.h"
#include "server/peer.h"

/* ---- the row ----------------------------------------------------------------------------------------------------- */

static bool rack_eq(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : "") == 0; }

/* Numbers of racks, in the order in which they are met. Returns how many. */
static uint32_t number_racks(const struct placement_node *nodes, uint32_t count, uint32_t *racks) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = 0;
        while (k < i && !rack_eq(nodes[k].rack, nodes[i].rack)) k++;
        racks[i] = k < i ? racks[k] : n++;
    }
    return n;
}

/* Appends those that are (not) up, one of each rack, then the second of each, and so on. */
static void append(struct placement *p, const struct placement_node *nodes, uint32_t count, const uint32_t *racks, bool up) {
    bool taken[PLACEMENT_NODES_MAX] = {0};
    for (bool more = true; more;) {
        more = false;
        for (uint32_t rack = 0; rack < p->racks; rack++) {
            uint32_t i = 0;
            while (i < count && (taken[i] || racks[i] != rack || nodes[i].up != up || nodes[i].drained)) i++;
            if (i == count) continue;
            taken[i] = more = true;
            p->row[p->count].node = nodes[i].node;
            p->row[p->count++].rack = rack;
        }
    }
}

static uint32_t count_racks(const struct placement *p, uint32_t end) {
    bool seen[PLACEMENT_NODES_MAX] = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < end; i++) {
        n += !seen[p->row[i].rack];
        seen[p->row[i].rack] = true;
    }
    return n;
}

void placement_init(struct placement *p, const struct placement_node *nodes, uint32_t count, uint64_t first) {
    uint32_t racks[PLACEMENT_NODES_MAX];
    ASSERT(count <= PLACEMENT_NODES_MAX);
    *p = (struct placement){.registered = count, .next = first, .racks = number_racks(nodes, count, racks)};
    append(p, nodes, count, racks, true);
    p->up = p->count;
    p->racks_up = count_racks(p, p->up);
    append(p, nodes, count, racks, false);
}

/* ---- one partition ------------------------------------------------------------------------------------------------ */

struct choice { bool node[PLACEMENT_NODES_MAX], rack[PLACEMENT_NODES_MAX]; uint32_t count; };

static void choose(const struct placement *p, struct choice *c, int32_t *out, uint32_t at) {
    c->node[at] = c->rack[p->row[at].rack] = true;
    out[c->count++] = p->row[at].node;
}

/* From [begin, end) of the row, from `start` on, once round: first those whose rack has none yet, then any. */
static void choose_from(const struct placement *p, struct choice *c, int32_t *out, uint32_t wanted, uint32_t begin, uint32_t end, uint32_t start) {
    uint32_t n = end - begin;
    for (int any = 0; any < 2; any++)
        for (uint32_t i = 0; i < n && c->count < wanted; i++) {
            uint32_t at = begin + (start - begin + i) % n;
            if (!c->node[at] && (any || !c->rack[p->row[at].rack])) choose(p, c, out, at);
        }
}

void placement_next(struct placement *p, int32_t *out, uint32_t count) {
    ASSERT(p->up > 0 && count >= 1 && count <= p->count);
    struct choice c = {0};
    uint32_t first = (uint32_t)(p->next % p->up);
    uint64_t round = p->next / p->up;
    choose(p, &c, out, first);
    /* The others begin one behind the first, two in the next round, ...; never at the first itself. */
    uint32_t step = p->up > 1 ? 1 + (uint32_t)(round % (p->up - 1)) : 0;
    choose_from(p, &c, out, count, 0, p->up, (first + step) % p->up);
    uint32_t down = p->count - p->up;
    if (down > 0) choose_from(p, &c, out, count, p->up, p->count, p->up + (uint32_t)(p->next % down));
    p->next++;
}

uint32_t placement_extend(struct placement *p, int32_t *nodes, uint32_t count, uint32_t wanted) {
    struct choice c = {.count = count};
    for (uint32_t i = 0; i < p->count; i++)
        for (uint32_t k = 0; k < count; k++)
            if (nodes[k] == p->row[i].node) c.node[i] = c.rack[p->row[i].rack] = true;
    if (p->up > 0) choose_from(p, &c, nodes, wanted, 0, p->up, (uint32_t)(p->next++ % p->up));
    return c.count;
}

/* ---- of an image --------------------------------------------------------------------------------------------------- */

static bool is_alone(const struct broker *b, const struct image *im, int32_t node) {
    return node == b->config.node_id && !image_node(im, node);
}

bool placement_knows(const struct broker *b, const struct image *im, int32_t node) {
    return image_node(im, node) != NULL || is_alone(b, im, node);
}
bool placement_is_up(const struct broker *b, const struct image *im, int32_t node) {
    return placement_knows(b, im, node) && (node == b->config.node_id || peer_is_up(&b->reactors[0], node));
}

void placement_of_image(struct placement *p, const struct broker *b, const struct image *im, uint64_t first) {
    struct placement_node nodes[PLACEMENT_NODES_MAX];
    uint32_t n = 0;
    if (is_alone(b, im, b->config.node_id)) nodes[n++] = (struct placement_node){b->config.node_id, b->config.broker_rack, true, false};
    for (uint32_t i = 0; i < im->node_count && n < PLACEMENT_NODES_MAX; i++) {
        const struct image_node *from = &im->nodes[i];
        nodes[n++] = (struct placement_node){from->node, from->rack, placement_is_up(b, im, from->node), from->drained};
    }
    placement_init(p, nodes, n, first);
}
