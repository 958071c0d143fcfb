/* api_await.h - topics and partitions that were just made are answered for when their partitions have leaders, so that clients can use them at once. */
#ifndef SERVER_API_AWAIT_H
#define SERVER_API_AWAIT_H
#include "server/api_partitions.h"

enum { AWAIT_PARTITIONS_MAX = 250, AWAIT_MS_MAX = 1000 };
struct api_await {
    struct request *rq;
    void (*done)(struct api_await *w);   /* all are led, or it took too long. Beyond the first AWAIT_PARTITIONS_MAX none is looked at */
    /* private */
    struct partition_questions questions;
    struct timer timer;
    uint32_t count, missing;
    int64_t deadline_ns, pause_ns;
};
/* Lives in the request. Then the topics, then begin, which calls `done` at once or later. False: closing. */
MUST_CHECK bool api_await_init(struct api_await *w, struct request *rq, void (*done)(struct api_await *w));
MUST_CHECK bool api_await_topic(struct api_await *w, const struct image_topic *t, int32_t first); /* its partitions from `first` on */
void api_await_begin(struct api_await *w);
#endif
