/* producer_ids.c - producer ids: each reactor gives them out of a block of its own. */
#include "base/assert.h"
#include "server/controller_impl.h"

enum { PRODUCER_ID_BLOCK = 1000 };

static void give(struct producer_ids *ids) {
    while (ids->next < ids->end && !list_empty(&ids->waiting)) {
        struct producer_id_request *rq = LIST_ENTRY(list_pop_front(&ids->waiting), struct producer_id_request, link);
        rq->err = OK;
        rq->producer_id = ids->next++;
        rq->done(rq);
    }
}

static void ask(struct producer_ids *ids) {
    if (ids->asking || list_empty(&ids->waiting)) return;
    ids->asking = true;
    controller_submit(ids->controller, &ids->change);
}

/* Reactor 0. */
static void make(struct controller_change *ch, struct controller_edit *e) {
    struct producer_ids *ids = ch->owner;
    ids->granted = controller_edit_image(e)->next_producer_id;
    controller_set_next_producer_id(e, ids->granted + PRODUCER_ID_BLOCK);
}

static void done(struct controller_change *ch) {
    struct producer_ids *ids = ch->owner;
    ids->asking = false;
    if (ch->err) {
        struct list *node;
        while ((node = list_pop_front(&ids->waiting))) {
            struct producer_id_request *rq = LIST_ENTRY(node, struct producer_id_request, link);
            rq->err = ch->err;
            rq->done(rq);
        }
        return;
    }
    ids->next = ids->granted;
    ids->end = ids->granted + PRODUCER_ID_BLOCK;
    give(ids);
    ask(ids);
}

void producer_ids_init(struct controller *c, struct producer_ids *ids, struct reactor *r) {
    *ids = (struct producer_ids){.controller = c, .reactor = r};
    ids->change = (struct controller_change){.caller = r, .make = make, .done = done, .owner = ids};
    list_init(&ids->waiting);
}

/* The callback would run inside the call when an id is at hand, so it goes through the mailbox. */
static void get_arrive(struct mail *m) {
    struct producer_id_request *rq = CONTAINER_OF(m, struct producer_id_request, mail);
    struct producer_ids *ids = &rq->caller->broker->controller->producer_ids[rq->caller->index];
    list_push_back(&ids->waiting, &rq->link);
    give(ids);
    ask(ids);
}

void producer_id_get(struct controller *c, struct producer_id_request *rq) {
    (void)c;
    list_init(&rq->link);
    rq->mail.deliver = get_arrive;
    mailbox_post(&rq->caller->mailbox, &rq->mail);
}
