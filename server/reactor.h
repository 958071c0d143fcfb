/* reactor.h - a reactor's turn, and the life of a broker around its reactors.
 *
 * Order, all on reactor 0's thread unless noted:
 *   broker_init     config taken over; reactors allocated, not usable yet
 *   reactor_init    on each reactor's own thread, with the io that it owns
 *   broker_open     data directory, journal replay, shards; blocks
 *   reactor_turn    on each reactor's thread, from now on again and again
 *   broker_start    replays metadata, then opens the listeners and calls `ready`
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
/* `ready` runs once, from reactor 0's loop: OK means that a client's produce can be acknowledged now. */
void broker_start(struct broker *b, const struct log_recovery *rec,
                  void (*ready)(void *ctx, enum err err, const char *why), void *ctx);
/* Where it listens, real ports included ("127.0.0.1:9092, [::1]:9093"), after `ready`. */
void broker_listens_text(const struct broker *b, char *out, size_t len);

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
struct acceptor *broker_acceptor(const struct broker *b);
#endif
