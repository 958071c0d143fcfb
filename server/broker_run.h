/* broker_run.h - how far a broker is on its way from listening to stopped. Private to broker.c and
 * reactor.c.
 *
 *   RUNNING -> LEAVING -> DRAINING -> SHUTTING -> STORING -> ENDED         clean stop
 *   any     -> FAILING  -> ENDED                                           the data directory is latched
 *
 *   LEAVING   all is served; leaderships go to other brokers that can take them, for shutdown.timeout.ms; no longer than a second
 *             without one that went: those that could take them may be stopping, too
 *   DRAINING  no new connections or requests; those in work finish, for shutdown.timeout.ms
 *   SHUTTING  connections are cut off, whoever waits on a partition is answered
 *   STORING   the store checkpoints everything; given up after a minute, as after a crash
 *   FAILING   clients get their errors for a moment, then the process ends with a failure
 * The phase belongs to reactor 0; the others report through `stage`. */
#ifndef SERVER_BROKER_RUN_H
#define SERVER_BROKER_RUN_H
#include "server/acceptor.h"

enum broker_phase { BROKER_RUNNING, BROKER_LEAVING, BROKER_DRAINING, BROKER_SHUTTING, BROKER_STORING, BROKER_FAILING, BROKER_ENDED };
enum reactor_stage { REACTOR_RUNNING, REACTOR_LEAVING, REACTOR_LEFT, REACTOR_DRAINING, REACTOR_DRAINED, REACTOR_SHUTTING, REACTOR_SHUT };

struct reactor_run {
    struct reactor *reactor;
    struct mail mail;
    _Atomic(enum reactor_stage) stage;
    _Atomic uint32_t to_hand_over;       /* while LEAVING */
};

struct broker_run {
    struct broker *broker;
    struct acceptor acceptor;
    const struct log_recovery *recovery; /* borrowed, until the controller has started */
    struct timer listen_timer;           /* a taken port is tried again */
    int64_t listen_deadline_ns;
    enum broker_phase phase;
    struct reactor_run *reactors;
    int64_t deadline_ns;
    uint64_t progress;                   /* of the store, or what was still to be handed over, when that was last looked at */
    int64_t give_up_ns;                  /* LEAVING: unless there is progress */
    struct timer timer;                  /* reactor 0 looks again */
    atomic_bool turning;                 /* broker_start() was called: reactor 0 may sleep in a turn */
    atomic_bool ended, clean;
    void (*ready)(void *ctx, enum err err, const char *why);
    void *ready_ctx;
};

void broker_run_turn(struct reactor *r); /* at the end of each reactor's turn */
#endif
