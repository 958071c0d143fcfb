/* api_await.c - see api_await.h. */
#include "server/api_await.h"

#define FIRST_PAUSE_NS 5000000

static void look(struct api_await *w) {
    w->missing = 0;
    partition_questions_send(&w->questions);
}

static void on_timer(struct timer *t) { look(CONTAINER_OF(t, struct api_await, timer)); }

static void take(void *target, const struct partition_fact *fact) {
    struct api_await *w = target;
    w->missing += fact->leader.leader < 0;
}

static void looked(struct partition_questions *q) {
    struct api_await *w = CONTAINER_OF(q, struct api_await, questions);
    struct reactor *r = w->rq->reactor;
    if (w->missing == 0 || r->now_ns >= w->deadline_ns || atomic_load(&r->broker->stopping)) {
        w->done(w);
        return;
    }
    timer_set(&r->timers, &w->timer, r->now_ns + w->pause_ns);
    w->pause_ns *= 2;
}

bool api_await_init(struct api_await *w, struct request *rq, void (*done)(struct api_await *w)) {
    *w = (struct api_await){.rq = rq, .done = done, .questions = {.answer = take, .done = looked},
                            .deadline_ns = rq->reactor->now_ns + AWAIT_MS_MAX * INT64_C(1000000), .pause_ns = FIRST_PAUSE_NS};
    timer_init(&w->timer, on_timer);
    return partition_questions_init(&w->questions, rq);
}

bool api_await_topic(struct api_await *w, const struct image_topic *t, int32_t first) {
    for (int32_t i = first; i < t->partition_count && w->count < AWAIT_PARTITIONS_MAX; i++, w->count++)
        if (!partition_questions_add(&w->questions, t->partitions[i].owner, t->partitions[i].plid, w)) return false;
    return true;
}

void api_await_begin(struct api_await *w) { look(w); }
