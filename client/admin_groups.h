/* admin_groups.h - one way of asking a group's coordinator, for admin_groups.c and admin_offsets.c. */
#ifndef CLIENT_ADMIN_GROUPS_H
#define CLIENT_ADMIN_GROUPS_H
#include "client/admin_impl.h"

/* As admin_run(), at the coordinator, which is found first, and again when it has moved. `again`: also after a lost
 * connection, for what may be done twice. `*coordinator` is who answered; `host` (256 bytes) holds its name. */
MUST_CHECK enum err group_admin_run(struct client *c, const char *group, struct client_exchange *x, int32_t timeout_ms, bool again,
                                    admin_result_fn *result, const char *what, struct client_broker *coordinator, char *host,
                                    struct client_reply *reply);
#endif
