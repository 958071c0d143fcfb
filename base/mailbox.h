/* mailbox.h - how reactors talk: many senders, one receiver, no locks.
 *
 * A `struct mail` is embedded in what it carries and belongs to the receiver from mailbox_post()
 * until `deliver` runs on the receiver's thread; the sender must not touch it meanwhile. Mails from
 * one sender arrive in the order in which they were posted. Posting to one's own mailbox is fine
 * (it is how "later, from the loop" is said). */
#ifndef BASE_MAILBOX_H
#define BASE_MAILBOX_H
#include <stdatomic.h>
#include "base/io.h"

struct mail {
    struct mail *next;
    void (*deliver)(struct mail *m);  /* may post or free `m` */
};
struct mailbox {
    _Atomic(struct mail *) newest;    /* stack; the drain reverses it */
    struct io *io;                    /* receiver's; woken when the box was empty */
};

void mailbox_init(struct mailbox *mb, struct io *io);
void mailbox_post(struct mailbox *mb, struct mail *m);  /* any thread */
/* Delivers what was there at the call, oldest first. Returns how many. Receiver's thread. */
unsigned mailbox_drain(struct mailbox *mb);
bool mailbox_empty(struct mailbox *mb);
#endif
