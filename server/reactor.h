/* reactor.h - a reactor's turn, and the life of a broker around its reactors.
 *
 * Order, all on reactor 0's thread unless noted:
 *   broker_init     config taken over; reactors allocated, not usable yet
 *   reactor_init    on each reactor's own thread, with the io that it owns
 *   broker_open     data directory, journal replay, shards, metadata; blocks
 *   broker_listen   listeners opened; from now on clients come in
 *   reactor_turn    on each reactor's thread, again and again
 *   broker_stop     begins the clean stop; reactors must go on turning until broker_ended()
 *   reactor_close   on each reactor's thread, after its last turn
 *   broker_close    after all reactors are closed
 * A test may do all of this on one thread with several reactors. */
#ifndef SERVER_REACTOR_H
#define SERVER_REACTOR_H
#include "server/broker.h"

/* Takes over `config` (also on failure). ERR_NOMEM. */
MUST_CHECK enum err broker_init(struct broker *b, struct config *config);
MUST_CHECK enum err reactor_init(struct reactor *r, struct io *io);
/* `why`: one sentence for the operator. */
MUST_CHECK enum err broker_open(struct broker *b, struct log_recovery *rec, char *why, size_t why_len);
MUST_CHECK enum err broker_listen(struct broker *b, char *why, size_t why_len);

/* One turn: mail, I/O completions (waits for the first until `deadline_ns` at most), timers, and
 * what was appended goes to the journal. */
void reactor_turn(struct reactor *r, int64_t deadline_ns);

/* Clean stop: no new connections or requests, those begun may finish for shutdown.timeout.ms, then
 * everything is checkpointed. Any thread; later calls change nothing. */
void broker_stop(struct broker *b);
/* True when reactors may stop turning: stopped cleanly, or `failed`. Any thread. */
bool broker_ended(const struct broker *b);
bool broker_clean(const struct broker *b);   /* ended by a clean stop that succeeded */

void reactor_close(struct reactor *r);
void broker_close(struct broker *b);
#endif
