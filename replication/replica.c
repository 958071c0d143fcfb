#include "replication/replica.h"
#include "base/assert.h"

static void act(struct replica_actions *actions, enum replica_action_kind kind, int32_t epoch, int64_t offset) {
    ASSERT(actions->count < REPLICA_ACTIONS_MAX);
    actions->list[actions->count++] = (struct replica_action){kind, epoch, offset};
}

/* Leading a group of one needs no vote from anybody else; the marker is what makes it known. */
static void begin_epoch(struct replica *r, struct replica_actions *actions) {
    r->epoch = r->last.epoch + 1;
    r->epoch_start = INT64_MAX;
    act(actions, REPLICA_BEGIN_EPOCH, r->epoch, 0);
}

/* Commit rule: p is what a majority of the voters (here: this one) holds durably. "If p.e == E and
 * p.o >= s(E): HW = max(HW, p.o), established." An older epoch's position commits nothing by
 * itself, however far it reaches. */
static void commit(struct replica *r, struct replica_actions *actions) {
    struct replica_position p = r->durable;
    if (p.epoch != r->epoch || p.offset < r->epoch_start) return;
    bool moved = p.offset > r->high_watermark || !r->established;
    r->established = true;
    if (p.offset > r->high_watermark) r->high_watermark = p.offset;
    if (moved) act(actions, REPLICA_HIGH_WATERMARK, r->epoch, r->high_watermark);
}

/* "After a restart every durable element is committed (no other log can exist), so it is
 * established at once in its last epoch; a new epoch begins with the first append." */
static void start(struct replica *r, struct replica_position last, struct replica_actions *actions) {
    r->last = r->durable = last;
    if (last.epoch == 0) {
        begin_epoch(r, actions);
        return;
    }
    r->epoch = last.epoch;
    r->epoch_start = 0;
    r->begins_on_write = true;
    commit(r, actions);
}

void replica_init(struct replica *r) {
    *r = (struct replica){.epoch_start = INT64_MAX};
}

void replica_step(struct replica *r, const struct replica_event *event, struct replica_actions *actions) {
    struct replica_position p = event->position;
    actions->count = 0;
    switch (event->kind) {
    case REPLICA_START:
        ASSERT(r->epoch == 0);
        start(r, p, actions);
        break;
    case REPLICA_WRITE:
        if (r->begins_on_write) {
            r->begins_on_write = false;
            begin_epoch(r, actions);
        }
        break;
    case REPLICA_APPENDED:
        ASSERT(replica_position_compare(p, r->last) >= 0);
        ASSERT(p.epoch <= r->epoch);
        if (p.epoch == r->epoch && r->last.epoch < r->epoch) r->epoch_start = p.offset;
        r->last = p;
        break;
    case REPLICA_DURABLE:
        ASSERT(replica_position_compare(p, r->last) <= 0);
        if (replica_position_compare(p, r->durable) > 0) r->durable = p;
        commit(r, actions);
        break;
    }
    ASSERT(r->high_watermark <= r->durable.offset);
}
