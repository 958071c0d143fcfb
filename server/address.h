/* address.h - socket addresses from and to text. */
#ifndef SERVER_ADDRESS_H
#define SERVER_ADDRESS_H
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_BYTES (INET6_ADDRSTRLEN + 16)

/* Whether address_resolve() answers at once: a number, "localhost", or "" (all addresses). */
bool address_is_numeric(const char *host);
/* Other names ask the resolver, which may block. False: not known. */
bool address_resolve(const char *host, uint16_t port, struct sockaddr_storage *out);
bool address_is_wildcard(const struct sockaddr_storage *addr);
/* "127.0.0.1", "::1"; an IPv4 address in IPv6 clothes is shown as what it is; "" for neither. */
void address_host_text(const struct sockaddr_storage *addr, char out[INET6_ADDRSTRLEN]);
uint16_t address_port(const struct sockaddr_storage *addr);
void address_text(const struct sockaddr_storage *addr, char out[ADDRESS_TEXT_BYTES]); /* "[::1]:9093" */
#endif
