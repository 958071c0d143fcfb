/* list.h - intrusive doubly linked list. A node is in at most one list; a head is a node that
 * points to itself when the list is empty. No allocation, no ownership. */
#ifndef BASE_LIST_H
#define BASE_LIST_H
#include <stdbool.h>
#include "base/compiler.h"

struct list { struct list *next, *prev; };

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_insert_before(struct list *at, struct list *node) {
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}
static inline void list_push_back(struct list *head, struct list *node) { list_insert_before(head, node); }
static inline void list_push_front(struct list *head, struct list *node) { list_insert_before(head->next, node); }
/* Unlinks and re-initialises, so removing twice is harmless. */
static inline void list_remove(struct list *node) {
    node->next->prev = node->prev;
    node->prev->next = node->next;
    list_init(node);
}
static inline struct list *list_pop_front(struct list *head) {
    if (list_empty(head)) return NULL;
    struct list *n = head->next;
    list_remove(n);
    return n;
}
#define LIST_FOREACH(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define LIST_FOREACH_SAFE(it, head) \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)
#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
#endif
