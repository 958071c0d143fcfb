/* controller_role.c - what this broker is in the group of the metadata log: asked on the reactor that owns it. */
#include "server/controller_impl.h"
#include "server/partition_impl.h"

bool controller_is_active(const struct broker *b) {
    return b->controller && atomic_load_explicit(&b->controller->active, memory_order_acquire);
}
int32_t controller_leader_node(const struct broker *b) {
    return b->controller ? atomic_load_explicit(&b->controller->leader, memory_order_relaxed) : -1;
}

static void role_home(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, role_mail);
    c->role_away = false;
    c->role = c->role_asked;
    atomic_store_explicit(&c->leader, c->role.leader, memory_order_relaxed);
    if (c->role_again) controller_ask_role(c);
    controller_review(c);
}

/* The owner's thread. */
static void role_arrive(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, role_mail);
    const struct partition *p = partition_find(metadata_owner(c), c->partition.plid);
    c->role_asked = (struct metadata_role){.epoch = -1, .leader = -1};
    if (p) {
        const struct replica *r = &p->replica;
        bool leads = r->role == REPLICA_LEADER;
        c->role_asked = (struct metadata_role){
            .epoch = r->epoch, .leads = leads && r->established, .config = r->config,
            .leader = leads ? r->self.node : r->has_leader ? r->leader.node : -1,
            .high_watermark = r->high_watermark, .end = p->log->end,
        };
    }
    m->deliver = role_home;
    mailbox_post(&controller_reactor(c)->mailbox, m);
}

void controller_ask_role(struct controller *c) {
    c->role_again = c->role_away;
    if (c->role_away || !c->follow.running || c->stopping) return;
    c->role_away = true;
    c->role_mail.deliver = role_arrive;
    mailbox_post(&metadata_owner(c)->mailbox, &c->role_mail);
}

static void signal_arrive(struct mail *m) {
    struct controller *c = CONTAINER_OF(m, struct controller, role_signal);
    atomic_store_explicit(&c->role_signalled, false, memory_order_release);
    controller_ask_role(c);
}

void controller_quorum_changed(struct reactor *r, uint64_t group) {
    struct controller *c = r->broker->controller;
    if (!c || group != c->partition.plid || atomic_exchange_explicit(&c->role_signalled, true, memory_order_acq_rel)) return;
    c->role_signal.deliver = signal_arrive;
    mailbox_post(&controller_reactor(c)->mailbox, &c->role_signal);
}
