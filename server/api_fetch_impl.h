/* api_fetch_impl.h - a Fetch from the inside; for api_fetch.c and api_fetch_session.c. */
#ifndef SERVER_API_FETCH_IMPL_H
#define SERVER_API_FETCH_IMPL_H
#include "proto/kafka_messages.h"
#include "server/api_nodes.h"
#include "server/fetch_session.h"
#include "server/partition.h"

/* One partition that is served, named by the request or by its session. */
struct fetch_item {
    struct fetch_part part;
    struct str topic;                /* of a session: set when it is told */
    struct uuid topic_id;
    int32_t partition;
    uint32_t session_part;
    struct reactor *owner;           /* NULL: refused at once, part.error says why */
    bool told;                       /* the answer lists it */
    struct k_fetch_response_responses_partitions *result; /* if told */
};

struct fetch_state {
    struct request *rq;
    struct k_fetch_request in;
    struct k_fetch_response out;
    struct fetch_item *items;        /* in the order in which they are served */
    uint32_t item_count;
    struct fetch_group *groups;      /* those with partitions */
    uint32_t group_count, away;
    void (*next)(struct fetch_state *s); /* when all groups are home */
    uint64_t min_bytes;
    int64_t most_bytes;              /* the broker's bound of an answer, or the client's quota */
    bool woken;                      /* somebody came home from waiting */
    bool refused;                    /* some partition has its error already */
    bool timer_used;
    struct timer timer;
    int64_t deadline_ns;
    uint32_t granted_bytes;          /* of the memory for responses */
    struct api_nodes nodes;          /* if leaders are named */
    /* the session: what its reactor is asked, and says */
    enum fetch_kind kind;
    struct reactor *session_owner;
    int32_t session_id;              /* FETCH_CONTINUED */
    uint64_t session_serial;
    bool throttled;                  /* by its quota: the answer has nothing in it */
    bool no_memory;                  /* the request's arena is full */
    struct mail mail;
    void (*session_work)(struct fetch_state *s);
    void (*session_next)(struct fetch_state *s);
};

/* Both call `next` on the request's thread, perhaps before they return. */
/* What the request means for sessions. Sets `kind` and out.error_code; FETCH_CONTINUED: `items`. */
void fetch_session_open(struct fetch_state *s, void (*next)(struct fetch_state *s));
/* All partitions are read: which of them are told (`told`, `topic`), out.session_id and out.error_code. */
void fetch_session_close(struct fetch_state *s, void (*next)(struct fetch_state *s));
#endif
