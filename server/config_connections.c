/* config_connections.c - how many connections a remote address may have: max.connections.per.ip, and for single addresses
 * max.connections.per.ip.overrides, `ADDRESS:COUNT,...` (IPv6 in brackets or not, as the last colon counts). */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/address.h"
#include "server/config_impl.h"

#define OVERRIDES "max.connections.per.ip.overrides"
enum { OVERRIDES_BYTES_MAX = 8192 };

/* An address as address_host_text() has it; false: it is none, or a name. */
static bool address_parse(const char *p, size_t len, char out[INET6_ADDRSTRLEN]) {
    char host[INET6_ADDRSTRLEN];
    struct sockaddr_storage addr;
    if (len > 2 && p[0] == '[' && p[len - 1] == ']') {
        p++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof host) return false;
    memcpy(host, p, len);
    host[len] = 0;
    if (!address_is_numeric(host) || !address_resolve(host, 0, &addr)) return false;
    address_host_text(&addr, out);
    return true;
}

static bool override_parse(struct str text, char host[INET6_ADDRSTRLEN], uint32_t *count) {
    const char *colon = memrchr(text.p, ':', (size_t)text.len), *end = text.p + text.len;
    if (!colon || colon + 1 == end || !address_parse(text.p, (size_t)(colon - text.p), host)) return false;
    int64_t n = 0;
    for (const char *d = colon + 1; d < end; d++) {
        if (*d < '0' || *d > '9') return false;
        n = n * 10 + (*d - '0');
        if (n > INT32_MAX) return false;
    }
    *count = (uint32_t)n;
    return true;
}

enum err config_connections_check(const struct config_key *key, struct str value, char *why, size_t why_len) {
    char host[INET6_ADDRSTRLEN];
    uint32_t count;
    if (strcmp(key->name, OVERRIDES) != 0) return OK;
    if (value.len > OVERRIDES_BYTES_MAX) { /* it is read again for each connection */
        snprintf(why, why_len, "is longer than %d characters", OVERRIDES_BYTES_MAX);
        return ERR_INVALID;
    }
    char *text = strndup(value.p ? value.p : "", (size_t)value.len);
    const char *list = text;
    enum err err = text ? OK : ERR_NOMEM;
    for (struct str each; err == OK && config_list_next(&list, &each);)
        if (!override_parse(each, host, &count)) err = ERR_INVALID;
    if (err == ERR_INVALID) snprintf(why, why_len, "is not a list of ADDRESS:COUNT (addresses, no names)");
    if (err == ERR_NOMEM) snprintf(why, why_len, "finds no memory");
    free(text);
    return err;
}

uint32_t config_connections_from(const struct config *c, const struct sockaddr_storage *peer) {
    char host[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN];
    const char *list = c->max_connections_per_ip_overrides;
    uint32_t count;
    uint32_t others = (uint32_t)c->max_connections_per_ip;
    if (!list || !*list) return others > 0 ? others : INT32_MAX; /* they were taken back while it ran: nobody could connect */
    address_host_text(peer, text);
    for (struct str each; config_list_next(&list, &each);)
        if (override_parse(each, host, &count) && strcmp(host, text) == 0) return count;
    return others;
}
