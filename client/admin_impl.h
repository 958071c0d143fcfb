/* admin_impl.h - one way of running an administrative request, for admin.c and admin_configs.c. */
#ifndef CLIENT_ADMIN_IMPL_H
#define CLIENT_ADMIN_IMPL_H
#include "client/core.h"

/* The adapters that a client_exchange wants, for a message called k_NAME_request and _response. */
#define ADMIN_ADAPTERS(name) \
    static void encode_##name(const void *m, struct wire_writer *w, int16_t version) { \
        k_##name##_request_encode(m, w, version);                                      \
    }                                                                                  \
    static enum err decode_##name(void *m, struct wire_reader *r, int16_t version) {   \
        return k_##name##_response_decode(m, r, version);                              \
    }

/* What the answer says about the one thing that was asked for. */
struct admin_result { bool present; int16_t code; struct str message; };
typedef void admin_result_fn(const void *response, struct admin_result *out);

/* Runs the exchange until it is done, the answer is final or the time is up: again when the broker
 * says that another one is the controller, or that it is busy. Not again after a lost connection:
 * the request may have been carried out. `what` begins the error's sentence. On OK the reply must be freed. */
MUST_CHECK enum err admin_run(struct client *c, const struct client_exchange *x, int32_t timeout_ms,
                              admin_result_fn *result, const char *what, struct client_reply *reply);
#endif
