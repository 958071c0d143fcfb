/* address.c - see address.h. */
#include "server/address.h"
#include <netdb.h>
#include <stdio.h>
#include <string.h>

bool address_is_numeric(const char *host) {
    struct in6_addr any;
    return !host[0] || strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool address_resolve(const char *host, uint16_t port, struct sockaddr_storage *out) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
    memset(out, 0, sizeof *out);
    if (!host[0]) host = "0.0.0.0";
    if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return true;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) != 0) return false;
    bool usable = found->ai_addrlen <= sizeof *out && (found->ai_family == AF_INET || found->ai_family == AF_INET6);
    if (usable) {
        memcpy(out, found->ai_addr, found->ai_addrlen);
        if (found->ai_family == AF_INET) v4->sin_port = htons(port);
        else v6->sin6_port = htons(port);
    }
    freeaddrinfo(found);
    return usable;
}

bool address_is_wildcard(const struct sockaddr_storage *addr) {
    if (addr->ss_family == AF_INET) return ((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr == 0;
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr);
}

void address_host_text(const struct sockaddr_storage *addr, char out[INET6_ADDRSTRLEN]) {
    out[0] = 0;
    if (addr->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)addr)->sin_addr, out, INET6_ADDRSTRLEN);
        return;
    }
    const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(a)) inet_ntop(AF_INET, a->s6_addr + 12, out, INET6_ADDRSTRLEN);
    else inet_ntop(AF_INET6, a, out, INET6_ADDRSTRLEN);
}

uint16_t address_port(const struct sockaddr_storage *addr) {
    if (addr->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
    return ntohs(((const struct sockaddr_in6 *)(const void *)addr)->sin6_port);
}

void address_text(const struct sockaddr_storage *addr, char out[ADDRESS_TEXT_BYTES]) {
    char host[INET6_ADDRSTRLEN];
    address_host_text(addr, host);
    bool v6 = strchr(host, ':') != NULL;
    snprintf(out, ADDRESS_TEXT_BYTES, "%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", address_port(addr));
}
