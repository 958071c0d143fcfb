/* peer.c - see peer.h. Nobody is connected. */
#include "server/peer.h"
#include "server/reactor.h"

enum err peer_set_node(struct broker *b, int32_t node, const char *host, int32_t port) {
    (void)host, (void)port;
    return node == b->config.node_id ? ERR_INVALID : OK;
}
void peer_set_cluster(struct broker *b, const struct uuid *cluster_id) { (void)b, (void)cluster_id; }
bool peer_is_up(const struct reactor *r, int32_t node) { return node == r->broker->config.node_id; }
bool peer_incarnation(const struct reactor *r, int32_t node, struct uuid *out) {
    if (node != r->broker->config.node_id) return false;
    *out = *log_store_incarnation(r->broker->store);
    return true;
}
bool peer_advertised(const struct broker *b, const char **host, int32_t *port) {
    (void)b, (void)host, (void)port;
    return false;
}

bool peer_send(struct reactor *r, uint64_t group, const struct replica_message *m, struct slice *slices, uint32_t count) {
    (void)r, (void)group, (void)m;
    for (uint32_t i = 0; i < count; i++) buf_unref(slices[i].buf);
    return false;
}
void peer_report_leader(struct reactor *r, uint64_t group, const struct leader_info *info) { (void)r, (void)group, (void)info; }
void peer_report_leader_to(struct reactor *r, int32_t node, uint64_t group, const struct leader_info *info) {
    (void)r, (void)node, (void)group, (void)info;
}
void peer_set_hooks(struct broker *b, const struct peer_hooks *hooks) { (void)b, (void)hooks; }

static void call_closed(struct timer *t) {
    struct peer_call *c = CONTAINER_OF(t, struct peer_call, timer);
    c->err = ERR_CLOSED;
    c->answer = BYTES_NULL;
    c->done(c);
}
void peer_call(struct peer_call *c) {
    timer_init(&c->timer, call_closed);
    timer_set(&c->caller->timers, &c->timer, c->caller->now_ns);
}
void peer_call_cancel(struct peer_call *c) { timer_cancel(&c->caller->timers, &c->timer); }
void peer_serve(struct broker *b, enum peer_call_kind kind, peer_serve_fn *fn) { (void)b, (void)kind, (void)fn; }
void peer_answer_send(struct peer_answer *a, struct bytes answer) { (void)a, (void)answer; }
