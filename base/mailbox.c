#include "base/mailbox.h"

void mailbox_init(struct mailbox *mb, struct io *io) {
    atomic_init(&mb->newest, NULL);
    mb->io = io;
}

/* Who finds the box empty wakes: between that and the drain everybody else finds it full. */
void mailbox_post(struct mailbox *mb, struct mail *m) {
    struct mail *newest = atomic_load_explicit(&mb->newest, memory_order_relaxed);
    do {
        m->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&mb->newest, &newest, m, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (!newest) io_wake(mb->io);
}

unsigned mailbox_drain(struct mailbox *mb) {
    struct mail *newest = atomic_exchange_explicit(&mb->newest, NULL, memory_order_acq_rel);
    struct mail *oldest = NULL;
    while (newest) {
        struct mail *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    unsigned count = 0;
    while (oldest) {
        struct mail *m = oldest;
        oldest = m->next; /* before `deliver`, which may free or post it again */
        m->deliver(m);
        count++;
    }
    return count;
}

bool mailbox_empty(struct mailbox *mb) {
    return atomic_load_explicit(&mb->newest, memory_order_acquire) == NULL;
}
