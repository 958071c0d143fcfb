/* address_counts.c - see address_counts.h. */
#include "server/address_counts.h"
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include "base/assert.h"

/* IPv4 as v4-mapped IPv6, so that one key serves both. */
struct address_count {
    uint8_t address[16];
    uint32_t count;
    UT_hash_handle hh;
};

static void key_of(const struct sockaddr_storage *addr, uint8_t key[16]) {
    memset(key, 0, 16);
    if (addr->ss_family == AF_INET6) {
        memcpy(key, &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, 16);
    } else if (addr->ss_family == AF_INET) {
        key[10] = key[11] = 0xff;
        memcpy(key + 12, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, 4);
    }
}

static struct address_count *find(const struct address_counts *a, const struct sockaddr_storage *addr, uint8_t key[16]) {
    struct address_count *entry;
    key_of(addr, key);
    HASH_FIND(hh, a->list, key, 16, entry);
    return entry;
}

uint32_t address_counts_of(const struct address_counts *a, const struct sockaddr_storage *addr) {
    uint8_t key[16];
    const struct address_count *entry = find(a, addr, key);
    return entry ? entry->count : 0;
}

enum err address_counts_add(struct address_counts *a, const struct sockaddr_storage *addr) {
    uint8_t key[16];
    struct address_count *entry = find(a, addr, key);
    if (!entry) {
        entry = calloc(1, sizeof *entry);
        if (!entry) return ERR_NOMEM;
        memcpy(entry->address, key, sizeof key);
        HASH_ADD(hh, a->list, address, sizeof entry->address, entry);
    }
    entry->count++;
    return OK;
}

void address_counts_remove(struct address_counts *a, const struct sockaddr_storage *addr) {
    uint8_t key[16];
    struct address_count *entry = find(a, addr, key);
    ASSERT(entry && entry->count > 0);
    if (--entry->count > 0) return;
    HASH_DEL(a->list, entry);
    free(entry);
}

void address_counts_free(struct address_counts *a) {
    struct address_count *entry, *next;
    HASH_ITER(hh, a->list, entry, next) {
        HASH_DEL(a->list, entry);
        free(entry);
    }
}
