/* config_peers.c - the other brokers: `controller.quorum.voters`, `controller.quorum.bootstrap.servers`, `peer.listen` and
 * `peer.advertised`.
 *
 *   voters     1@host:port,2@host:port     IPv6 in brackets
 *   others     host:port
 * Where it listens, strongest first: peer.listen; the first listener of controller.listener.names (as a configuration for
 * Kafka has it); the own entry among the voters; 127.0.0.1:9093. */
#include <stdarg.h>
#include <stdio.h>
#include "server/config_impl.h"

#define PEER_PORT 9093

PRINTF_LIKE(3, 4) static enum err refuse(char *why, size_t why_len, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, why_len, fmt, ap);
    va_end(ap);
    return ERR_INVALID;
}

static bool is_wildcard(const char *host) { return !host[0] || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0; }

/* One that others can connect to, when `reachable`. */
static bool address_parse(struct str text, bool reachable, struct config_address *out) {
    struct config_endpoint e;
    if (memmem(text.p, (size_t)text.len, "://", 3) || !config_endpoint_parse(text, &e)) return false;
    if (reachable && (is_wildcard(e.host) || e.port == 0)) return false;
    memcpy(out->host, e.host, sizeof out->host);
    out->port = e.port;
    return true;
}

static bool voter_parse(struct str text, struct config_voter *v) {
    const char *at = memchr(text.p, '@', (size_t)text.len);
    int64_t node = 0;
    if (!at || at == text.p || at - text.p > 10) return false;
    for (const char *d = text.p; d < at; d++) {
        if (*d < '0' || *d > '9') return false;
        node = node * 10 + (*d - '0');
    }
    if (node > INT32_MAX) return false;
    v->node = (int32_t)node;
    return address_parse((struct str){at + 1, (int32_t)(text.p + text.len - at - 1)}, true, &v->at);
}

static enum err voter_add(struct config *c, const struct config_voter *v, char *why, size_t why_len) {
    static const char key[] = "controller.quorum.voters";
    if (c->voter_count == CONFIG_VOTERS_MAX) return refuse(why, why_len, "%s: more than %d", key, CONFIG_VOTERS_MAX);
    uint32_t at = c->voter_count;
    for (uint32_t i = 0; i < c->voter_count; i++) {
        const struct config_voter *w = &c->voters[i];
        if (w->node == v->node) return refuse(why, why_len, "%s: broker %d is there twice", key, v->node);
        if (strcmp(w->at.host, v->at.host) == 0 && w->at.port == v->at.port)
            return refuse(why, why_len, "%s: brokers %d and %d have the same address", key, w->node, v->node);
    }
    for (; at > 0 && c->voters[at - 1].node > v->node; at--) c->voters[at] = c->voters[at - 1];
    c->voters[at] = *v;
    c->voter_count++;
    return OK;
}

static enum err voters_fill(struct config *c, char *why, size_t why_len) {
    const char *list = config_value(c, "controller.quorum.voters")->text;
    for (struct str each; list && config_list_next(&list, &each);) {
        struct config_voter v;
        if (!voter_parse(each, &v))
            return refuse(why, why_len, "controller.quorum.voters: \"%.*s\" is not id@host:port", (int)MIN(each.len, 80), each.p);
        enum err err = voter_add(c, &v, why, why_len);
        if (err != OK) return err;
    }
    return OK;
}

static enum err bootstrap_fill(struct config *c, char *why, size_t why_len) {
    static const char key[] = "controller.quorum.bootstrap.servers";
    const char *list = config_value(c, key)->text;
    for (struct str each; list && config_list_next(&list, &each);) {
        if (c->bootstrap_count == CONFIG_BOOTSTRAP_MAX) return refuse(why, why_len, "%s: more than %d", key, CONFIG_BOOTSTRAP_MAX);
        if (!address_parse(each, true, &c->bootstrap[c->bootstrap_count]))
            return refuse(why, why_len, "%s: \"%.*s\" is not host:port", key, (int)MIN(each.len, 80), each.p);
        c->bootstrap_count++;
    }
    return OK;
}

static const struct config_address *own_entry(const struct config *c) {
    for (uint32_t i = 0; i < c->voter_count; i++)
        if (c->voters[i].node == c->node_id) return &c->voters[i].at;
    return NULL;
}

/* The first listener that controller.listener.names names. */
static bool controller_listener(const struct config *c, const char *names, struct config_address *out) {
    const char *list = config_value(c, "listeners")->text;
    for (struct str each; config_list_next(&list, &each);) {
        struct config_endpoint e;
        if (!config_endpoint_parse(each, &e) || !config_name_listed(names, e.name)) continue;
        memcpy(out->host, e.host, sizeof out->host);
        out->port = e.port;
        return true;
    }
    return false;
}

static enum err listen_fill(struct config *c, const char *names, char *why, size_t why_len) {
    const char *listen = config_value(c, "peer.listen")->text;
    const struct config_address *own = own_entry(c);
    c->peer_listen = (struct config_address){"127.0.0.1", PEER_PORT};
    if (listen && !address_parse(str_from(listen), false, &c->peer_listen))
        return refuse(why, why_len, "peer.listen: \"%.80s\" is not host:port", listen);
    if (!listen && !controller_listener(c, names, &c->peer_listen) && own) c->peer_listen = *own;
    c->peer_listens = listen || c->voter_count > 0 || c->bootstrap_count > 0;
    if (c->peer_listens && !c->allow_insecure && !config_is_loopback(c->peer_listen.host))
        return refuse(why, why_len, "the listener for other brokers, %s:%u, is not on a loopback address, and there is no authentication or "
                      "encryption yet: whoever reaches the port could change everything. If that is wanted, add --set allow.insecure=true",
                      c->peer_listen.host, c->peer_listen.port);
    return OK;
}

static enum err advertised_fill(struct config *c, char *why, size_t why_len) {
    const char *advertised = config_value(c, "peer.advertised")->text;
    const struct config_address *own = own_entry(c);
    if (advertised && !address_parse(str_from(advertised), true, &c->peer_advertised))
        return refuse(why, why_len, "peer.advertised: \"%.80s\" is not a host:port that other brokers can reach", advertised);
    if (!advertised && own) c->peer_advertised = *own;
    if (c->peer_listens && !c->peer_advertised.host[0] && is_wildcard(c->peer_listen.host))
        return refuse(why, why_len, "peer.advertised: needed, for this broker listens for others on all addresses and they must be told one");
    return OK;
}

enum err config_peers_fill(struct config *c, const char *controller_names, char *why, size_t why_len) {
    enum err err = voters_fill(c, why, why_len);
    if (err == OK) err = bootstrap_fill(c, why, why_len);
    if (err == OK) err = listen_fill(c, controller_names, why, why_len);
    if (err == OK) err = advertised_fill(c, why, why_len);
    return err;
}
