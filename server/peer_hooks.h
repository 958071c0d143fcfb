/* peer_hooks.h - what comes from other brokers, joined with partitions and the tables of leaders. */
#ifndef SERVER_PEER_HOOKS_H
#define SERVER_PEER_HOOKS_H
#include "server/broker.h"

/* Before broker_start(), when partitions and tables of leaders are there. */
void peer_hooks_open(struct broker *b);
/* The reactor has stopped; before leaders_free(). */
void peer_hooks_free(struct reactor *r);
#endif
