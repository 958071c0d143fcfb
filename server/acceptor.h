/* acceptor.h - listening sockets, and who gets a new connection.
 *
 * Reactor 0 accepts on all listeners and deals sockets to the reactors in turn, so the count of
 * connections (max.connections, max.connections.per.ip) has one owner and needs no lock. Each
 * connection carries a ticket that comes back when it is gone. No SO_REUSEPORT: a second broker on
 * the same port must fail, not share it.
 *
 * Thread: reactor 0's, but for acceptor_ticket_closed(). */
#ifndef SERVER_ACCEPTOR_H
#define SERVER_ACCEPTOR_H
#include "server/address_counts.h"
#include "server/conn.h"

#define ACCEPTS_IN_FLIGHT 4 /* on each listener: connection storms are taken several a turn */

struct accept_slot {
    struct io_op op;
    struct timer retry;                /* after the process ran out of descriptors or memory */
    struct acceptor *acceptor;
    struct listener *listener;
    bool in_flight;
};

struct acceptor {
    struct broker *broker;
    struct listener listeners[CONFIG_LISTENERS_MAX];
    uint32_t listener_count;
    struct accept_slot slots[CONFIG_LISTENERS_MAX * ACCEPTS_IN_FLIGHT];
    uint32_t slot_count;
    uint32_t next_reactor, conn_count;
    struct address_counts addresses;   /* of connections */
    struct list refused;               /* tickets of connections beyond the quota of their address, to be closed soon */
    bool stopping;
    bool exhausted;                    /* no descriptors or memory for more; said so */
};

void acceptor_init(struct acceptor *a, struct broker *b);
/* Opens every listener of the configuration. On failure `why` says which and none is open. */
MUST_CHECK enum err acceptor_listen(struct acceptor *a, char *why, size_t why_len);
void acceptor_stop(struct acceptor *a);
bool acceptor_stopped(const struct acceptor *a);          /* nothing in flight, sockets closed */
void acceptor_free(struct acceptor *a);
/* For conn_set_on_closed(): any reactor. */
void acceptor_ticket_closed(struct conn_ticket *ticket);
#endif
