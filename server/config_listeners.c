/* config_listeners.c - `listeners` and `advertised.listeners`.
 *
 *   NAME://host:port   [2001:db8::1]:9092   host:port   :9092 (all addresses)
 * A pair without a name is PLAINTEXT. Names are free, as with Kafka, but every listener is plain. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/config_impl.h"

static bool copy(char *out, size_t cap, const char *p, size_t len) {
    if (len >= cap) return false;
    memcpy(out, p, len);
    out[len] = 0;
    return true;
}

bool config_endpoint_parse(struct str text, struct config_endpoint *e) {
    const char *p = text.p, *end = p + text.len, *scheme = memmem(p, (size_t)text.len, "://", 3);
    strcpy(e->name, "PLAINTEXT");
    if (scheme) {
        if (scheme == p || !copy(e->name, sizeof e->name, p, (size_t)(scheme - p))) return false;
        p = scheme + 3;
    }
    const char *colon = memrchr(p, ':', (size_t)(end - p));
    if (!colon) return false;
    const char *host = p, *host_end = colon;
    if (host < host_end && *host == '[') {
        if (host_end[-1] != ']') return false;
        host++;
        host_end--;
    } else if (memchr(host, ':', (size_t)(host_end - host))) {
        return false; /* an IPv6 address without brackets is ambiguous */
    }
    if (!copy(e->host, sizeof e->host, host, (size_t)(host_end - host))) return false;
    unsigned port = 0;
    if (colon + 1 == end) return false;
    for (const char *d = colon + 1; d < end; d++) {
        if (*d < '0' || *d > '9') return false;
        port = port * 10 + (unsigned)(*d - '0');
        if (port > 65535) return false;
    }
    e->port = (uint16_t)port;
    return true;
}

bool config_list_next(const char **list, struct str *element) {
    const char *p = *list;
    if (!*p) return false;
    size_t len = strcspn(p, ",");
    const char *from = p, *to = p + len;
    while (from < to && *from == ' ') from++;
    while (to > from && to[-1] == ' ') to--;
    *list = p + len + (p[len] == ',');
    *element = (struct str){from, (int32_t)(to - from)};
    return true;
}

bool config_name_listed(const char *names, const char *name) {
    for (struct str each; config_list_next(&names, &each);)
        if (str_is(each, name)) return true;
    return false;
}

bool config_is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

typedef bool endpoint_fn(struct config *c, const struct config_endpoint *e, char *why, size_t why_len);

static bool listener_add(struct config *c, const struct config_endpoint *e, char *why, size_t why_len) {
    if (c->listener_count == CONFIG_LISTENERS_MAX) {
        snprintf(why, why_len, "listeners: more than %d", CONFIG_LISTENERS_MAX);
        return false;
    }
    for (uint32_t i = 0; i < c->listener_count; i++) {
        if (strcmp(c->listeners[i].name, e->name) != 0) continue;
        snprintf(why, why_len, "listeners: %s is there twice", e->name);
        return false;
    }
    if (!c->allow_insecure && !config_is_loopback(e->host)) {
        snprintf(why, why_len,
                 "listeners: %s is not a loopback address, and there is no authentication or encryption yet: whoever "
                 "reaches the port could read, write and delete everything. If that is wanted, add --set allow.insecure=true",
                 e->host[0] ? e->host : "an empty host (all addresses)");
        return false;
    }
    struct config_listener *l = &c->listeners[c->listener_count++];
    memcpy(l->name, e->name, sizeof l->name);
    memcpy(l->host, e->host, sizeof l->host);
    l->port = e->port;
    return true;
}

static bool advertised_add(struct config *c, const struct config_endpoint *e, char *why, size_t why_len) {
    if (!e->host[0] || strcmp(e->host, "0.0.0.0") == 0 || strcmp(e->host, "::") == 0) {
        snprintf(why, why_len, "advertised.listeners: %s needs a host that clients can reach", e->name);
        return false;
    }
    for (uint32_t i = 0; i < c->listener_count; i++) {
        if (strcmp(c->listeners[i].name, e->name) != 0) continue;
        memcpy(c->listeners[i].advertised_host, e->host, sizeof e->host);
        c->listeners[i].advertised_port = e->port;
        return true;
    }
    snprintf(why, why_len, "advertised.listeners: there is no listener %s", e->name);
    return false;
}

static bool endpoints_each(struct config *c, const char *key, const char *list, const char *left_out, endpoint_fn *fn, char *why,
                           size_t why_len) {
    for (struct str at; config_list_next(&list, &at);) {
        struct config_endpoint e;
        if (!config_endpoint_parse(at, &e)) {
            snprintf(why, why_len, "%s: \"%.*s\" is not NAME://host:port or host:port", key, (int)MIN(at.len, 80), at.p);
            return false;
        }
        if (!config_name_listed(left_out, e.name) && !fn(c, &e, why, why_len)) return false;
    }
    return true;
}

enum err config_listeners_fill(struct config *c, const char *left_out, char *why, size_t why_len) {
    const char *listeners = config_value(c, "listeners")->text, *advertised = config_value(c, "advertised.listeners")->text;
    if (!endpoints_each(c, "listeners", listeners, left_out, listener_add, why, why_len)) return ERR_INVALID;
    if (c->listener_count == 0) {
        snprintf(why, why_len, "listeners: none is left for clients");
        return ERR_INVALID;
    }
    if (advertised && !endpoints_each(c, "advertised.listeners", advertised, left_out, advertised_add, why, why_len))
        return ERR_INVALID;
    return OK;
}
