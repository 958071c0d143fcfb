/* config_impl.h - reading addresses and lists. Private to config_*.c. */
#ifndef SERVER_CONFIG_IMPL_H
#define SERVER_CONFIG_IMPL_H
#include "server/config.h"

struct config_endpoint { char name[64], host[256]; uint16_t port; };

/* "NAME://host:port" or "host:port" (name PLAINTEXT), IPv6 in brackets; false: malformed. */
bool config_endpoint_parse(struct str text, struct config_endpoint *e);
/* Elements separated by commas, without the blanks around them; false: the end. `*list` moves on. */
bool config_list_next(const char **list, struct str *element);
bool config_name_listed(const char *names, const char *name);
bool config_is_loopback(const char *host);
#endif
