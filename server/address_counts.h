/* address_counts.h - how many connections there are from each remote address.
 *
 * An IPv4 address and the same in IPv6 clothes are one. Memory is proportional to the addresses that have a connection. Not
 * thread-safe: whoever owns one calls from one reactor, or under a lock. */
#ifndef SERVER_ADDRESS_COUNTS_H
#define SERVER_ADDRESS_COUNTS_H
#include <stdint.h>
#include <sys/socket.h>
#include "base/compiler.h"
#include "base/err.h"

struct address_count;
struct address_counts { struct address_count *list; }; /* a hash by address; starts as zeros */

uint32_t address_counts_of(const struct address_counts *a, const struct sockaddr_storage *addr);
/* One more; ERR_NOMEM: not counted. */
MUST_CHECK enum err address_counts_add(struct address_counts *a, const struct sockaddr_storage *addr);
/* One less, of those that were added. */
void address_counts_remove(struct address_counts *a, const struct sockaddr_storage *addr);
void address_counts_free(struct address_counts *a);
#endif
