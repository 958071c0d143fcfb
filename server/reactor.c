/* reactor.c - one turn of a reactor's loop. */
#include "server/reactor.h"
#include "base/assert.h"
#include "base/trace.h"
#include "server/broker_run.h"
#include "server/conn.h"
#include "server/fetch_session.h"
#include "server/group_coordinator.h"
#include "server/leaders.h"
#include "server/partition.h"
#include "server/peer.h"
#include "server/peer_hooks.h"
#include "server/reconcile.h"

enum err reactor_init(struct reactor *r, struct io *io) {
    r->io = io;
    mailbox_init(&r->mailbox, io);
    timers_init(&r->timers);
    r->now_ns = r->awake_ns = r->looked_ns = r->born_ns = io_mono_ns(io);
    r->now_ms = io_wall_ms(io);
    r->conns = conn_set_new(r);
    if (r->conns) r->fetch_sessions = fetch_sessions_new(r);
    return r->fetch_sessions ? OK : ERR_NOMEM;
}

/* Whoever did not get to run has heard nobody and must not conclude that nobody spoke. That shows in a timer that is late; a little of it
 * is normal. */
#define LATE_NS INT64_C(20000000)
#define SLEPT_NS INT64_C(100000000) /* the world may have gone on without it: see partition_still_leads() */
static void look_at_clocks(struct reactor *r, int64_t due_ns) {
    r->now_ns = io_mono_ns(r->io);
    r->now_ms = io_wall_ms(r->io);
    int64_t late_ns = r->now_ns - MAX(due_ns, r->looked_ns) - LATE_NS;
    r->awake_ns += r->now_ns - r->looked_ns - (late_ns > 0 ? late_ns : 0);
    r->looked_ns = r->now_ns;
    if (late_ns > SLEPT_NS) r->slept_ns = r->awake_ns;
}

/* The order matters twice: whatever completes or arrives is handled before the appends of this turn go to
 * the journal together, and responses leave after that, gathered. */
void reactor_turn(struct reactor *r, int64_t deadline_ns) {
    int64_t timer_ns = timers_next(&r->timers);
    if (timer_ns < deadline_ns) deadline_ns = timer_ns;
    if (r->busy) deadline_ns = 0;
    int status = io_turn(r->io, deadline_ns);
    if (status < 0) trace_error("reactor", "reactor %u: waiting for I/O: %s", r->index, err_str(err_from_errno(status)));
    look_at_clocks(r, timer_ns);
    mailbox_drain(&r->mailbox);
    peer_set_turn(r); /* before the timers: who has spoken is not silent */
    timers_run(&r->timers, r->now_ns);
    if (r->partitions) partition_map_turn(r->partitions);
    r->busy = conn_set_turn(r->conns);
    if (r->shard) log_shard_turn(r->shard);
    bool unfinished = r->partitions && partition_map_flush(r->partitions);
    if (conn_set_turn(r->conns) || unfinished) r->busy = true;
    if (peer_set_flush(r)) r->busy = true;
    broker_run_turn(r);
}

/* Connections that are left are cut off; their last completions are awaited. */
void reactor_close(struct reactor *r) {
    if (!r->conns) return;
    conn_set_shut(r->conns);
    peer_set_shut(r);
    while (conn_set_count(r->conns) > 0 || !peer_set_is_empty(r)) {
        io_turn(r->io, io_mono_ns(r->io) + 10000000);
        r->now_ns = io_mono_ns(r->io);
        conn_set_turn(r->conns);
        peer_set_flush(r);
    }
    group_set_free(r->groups);
    partition_map_free(r->partitions);
    peer_hooks_free(r);
    reconciler_free(r->reconciler);
    leaders_free(r->leaders);
    peer_set_free(r);
    conn_set_free(r->conns);
    fetch_session_cache_free(r->fetch_sessions);
    timers_free(&r->timers);
    r->groups = NULL;
    r->partitions = NULL;
    r->reconciler = NULL;
    r->leaders = NULL;
    r->conns = NULL;
    r->fetch_sessions = NULL;
}
