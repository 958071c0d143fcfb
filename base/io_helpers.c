/* Helper threads, started one by one as ops find none idle. See io_posix.h. */
#include "base/io_posix.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include "base/assert.h"

#define HELPER_STACK_BYTES (512u * 1024)

static void *helper_main(void *arg) {
    struct helpers *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (list_empty(&h->waiting) && !h->stopping) {
            h->idle++;
            pthread_cond_wait(&h->some_waiting, &h->lock);
            h->idle--;
        }
        if (list_empty(&h->waiting)) break;
        struct io_op *op = LIST_ENTRY(list_pop_front(&h->waiting), struct io_op, link);
        h->waiting_count--;
        pthread_mutex_unlock(&h->lock);
        int64_t result = h->run(op);
        pthread_mutex_lock(&h->lock);
        op->result = result;
        list_push_back(&h->finished, &op->link);
        if (atomic_fetch_add(&h->finished_count, 1) == 0) io_wake(h->io);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* Signals are the main thread's business: a helper starts with all of them blocked. */
static int helper_start(struct helpers *h) {
    pthread_attr_t attr;
    sigset_t all, before;
    int error = pthread_attr_init(&attr);
    if (error) return -error;
    pthread_attr_setstacksize(&attr, HELPER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&h->threads[h->thread_count], &attr, helper_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (!error) h->thread_count++;
    return -error;
}

int helpers_init(struct helpers *h, struct io *io, uint32_t thread_limit, int64_t (*run)(struct io_op *op)) {
    *h = (struct helpers){.io = io, .run = run, .thread_limit = thread_limit ? thread_limit : 4};
    list_init(&h->waiting);
    list_init(&h->finished);
    h->threads = calloc(h->thread_limit, sizeof *h->threads);
    if (!h->threads) return -ENOMEM;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->some_waiting, NULL);
    return 0;
}

void helpers_free(struct helpers *h) {
    pthread_mutex_lock(&h->lock);
    ASSERT(list_empty(&h->waiting) && list_empty(&h->finished));
    h->stopping = true;
    pthread_cond_broadcast(&h->some_waiting);
    pthread_mutex_unlock(&h->lock);
    for (uint32_t i = 0; i < h->thread_count; i++) pthread_join(h->threads[i], NULL);
    pthread_cond_destroy(&h->some_waiting);
    pthread_mutex_destroy(&h->lock);
    free(h->threads);
}

/* An op that still waits ends without having run. Under the lock. */
static void finish_unrun(struct helpers *h, struct io_op *op, int error) {
    list_remove(&op->link);
    h->waiting_count--;
    op->result = error;
    list_push_back(&h->finished, &op->link);
    if (atomic_fetch_add(&h->finished_count, 1) == 0) io_wake(h->io);
}

void helpers_submit(struct helpers *h, struct io_op *op) {
    pthread_mutex_lock(&h->lock);
    list_push_back(&h->waiting, &op->link);
    h->waiting_count++;
    if (h->waiting_count <= h->idle) {
        pthread_cond_signal(&h->some_waiting);
    } else if (h->thread_count < h->thread_limit) {
        int error = helper_start(h);
        if (error && h->thread_count == 0) finish_unrun(h, op, error); /* nobody would ever run it */
    }
    pthread_mutex_unlock(&h->lock);
}

bool helpers_cancel(struct helpers *h, struct io_op *op) {
    bool found = false;
    pthread_mutex_lock(&h->lock);
    LIST_FOREACH(it, &h->waiting) {
        if (it != &op->link) continue;
        found = true;
        break;
    }
    if (found) finish_unrun(h, op, -ECANCELED);
    pthread_mutex_unlock(&h->lock);
    return found;
}

void helpers_collect(struct helpers *h, struct list *finished) {
    if (atomic_load(&h->finished_count) == 0) return;
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->finished_count, 0);
    while (!list_empty(&h->finished)) list_push_back(finished, list_pop_front(&h->finished));
    pthread_mutex_unlock(&h->lock);
}
