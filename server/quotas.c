/* quotas.c - see quotas.h. */
#include "server/quotas.h"
#include <xxhash.h>
#include "server/api.h"
#include "server/conn_impl.h"
#include "server/controller.h"

#define SECOND_NS INT64_C(1000000000)

static struct str user_of(const struct request *rq) {
    (void)rq; /* until there is authentication */
    return STR_LIT("ANONYMOUS");
}

/* ---- what limits a client ------------------------------------------------------------------------------ */

/* Kafka's windows: all but the current one are what an idle client may use at once. */
static int64_t burst_ns(const struct config *c, enum quota_key key) {
    if (key == QUOTA_CONTROLLER_CHANGES) return (int64_t)c->controller_quota_window_num * c->controller_quota_window_seconds * SECOND_NS;
    return (int64_t)MAX(c->quota_window_num - 1, 1) * c->quota_window_seconds * SECOND_NS;
}

static struct quota_limit limit_of(const struct broker *b, const struct quota_set *set, enum quota_key key, struct str user,
                                   struct str client) {
    struct quota_limit l = {0};
    bool by_user, by_client;
    l.rate = quota_set_limit(set, key, user, client, &by_user, &by_client);
    if (l.rate == 0) return l;
    l.burst_ns = burst_ns(&b->config, key);
    l.name = quota_name(b->quotas, key, l.rate, by_user ? user : STR_NULL, by_client ? client : STR_NULL);
    return l;
}

static struct str client_of(const struct request *rq) {
    return rq->header.client_id.p ? rq->header.client_id : STR_LIT("");
}

/* NULL: no limit. Good until the next call. */
static const struct quota_limit *limit(struct request *rq, enum quota_key key) {
    const struct image *im = request_image(rq);
    if (!rq->conn || !quotas_exist(rq->reactor) || im->quotas->count == 0) return NULL;
    struct client_quotas *q = &rq->conn->quotas;
    struct str client = client_of(rq), user = user_of(rq);
    uint64_t hash = XXH3_64bits(client.p, (size_t)client.len);
    if (q->edition != im->edition || q->client != hash) {
        q->edition = im->edition;
        q->client = hash;
        for (int k = 0; k < QUOTA_CLIENT_KEYS; k++)
            q->limits[k] = limit_of(request_broker(rq), im->quotas, (enum quota_key)k, user, client);
    }
    return q->limits[key].rate > 0 ? &q->limits[key] : NULL;
}

/* ---- the pause --------------------------------------------------------------------------------------------- */

static int32_t to_ms(int64_t ns) { return (int32_t)MIN((ns + 999999) / 1000000, (int64_t)INT32_MAX); }

void quota_pause(struct request *rq, int32_t throttle_ms) {
    if (throttle_ms <= rq->throttle_ms) return;
    rq->throttle_ms = throttle_ms;
    if (rq->done) request_show_pause(rq);
    if (rq->conn) conn_mute(rq->conn, rq->reactor->now_ns + (int64_t)throttle_ms * 1000000);
}

void quota_produce(struct request *rq, size_t bytes) {
    const struct quota_limit *l = limit(rq, QUOTA_PRODUCER_BYTES);
    if (l) quota_pause(rq, to_ms(quota_take(request_broker(rq)->quotas, l, (double)bytes, rq->reactor->now_ns)));
}

int64_t quota_fetch_max(struct request *rq, int64_t max_bytes) {
    const struct quota_limit *l = limit(rq, QUOTA_CONSUMER_BYTES);
    if (!l) return max_bytes;
    double most = l->rate * (double)l->burst_ns / 1e9;
    return most < (double)max_bytes ? MAX((int64_t)most, 1) : max_bytes;
}

bool quota_fetch(struct request *rq, uint64_t bytes) {
    const struct quota_limit *l = bytes > 0 ? limit(rq, QUOTA_CONSUMER_BYTES) : NULL;
    int64_t wait_ns = l ? quota_try(request_broker(rq)->quotas, l, (double)bytes, rq->reactor->now_ns) : 0;
    quota_pause(rq, to_ms(wait_ns));
    return wait_ns == 0;
}

/* ---- time --------------------------------------------------------------------------------------------------- */

int64_t quota_handler_begin(struct request *rq) {
    return limit(rq, QUOTA_REQUEST_PERCENT) ? io_mono_ns(rq->reactor->io) : 0;
}

/* Kafka bounds this pause by one window. */
void quota_handler_end(struct request *rq, int64_t begun_ns) {
    const struct quota_limit *l = limit(rq, QUOTA_REQUEST_PERCENT);
    if (!l) return;
    double percents = (double)(io_mono_ns(rq->reactor->io) - begun_ns) / 1e9 * 100;
    int64_t wait_ns = quota_take(request_broker(rq)->quotas, l, percents, rq->reactor->now_ns);
    quota_pause(rq, to_ms(MIN(wait_ns, request_broker(rq)->config.quota_window_seconds * SECOND_NS)));
}

/* ---- changes of metadata --------------------------------------------------------------------------------------- */

bool quota_change(struct request *rq, bool strict, int64_t partitions, int32_t *throttle_ms) {
    struct broker *b = request_broker(rq);
    struct reactor *r = &b->reactors[0];
    const struct quota_limit l = limit_of(b, reactor_image(r)->quotas, QUOTA_CONTROLLER_CHANGES, user_of(rq), client_of(rq));
    if (l.rate == 0) return true;
    int64_t over_ns = strict ? quota_overdrawn(b->quotas, &l, r->now_ns) : 0;
    bool refused = over_ns > 0;
    if (!refused) over_ns = quota_take(b->quotas, &l, (double)partitions, r->now_ns);
    /* Where it can be refused, what overdraws the quota is done, and the next change is refused. */
    if (refused || !strict) *throttle_ms = MAX(*throttle_ms, to_ms(over_ns));
    return !refused;
}

/* ---- connections --------------------------------------------------------------------------------------------- */

int64_t quota_connection(struct broker *b, struct str address, int64_t now_ns) {
    const struct image *im = reactor_image(&b->reactors[0]);
    if (!im || !im->quotas) return 0;
    struct quota_limit l = {.rate = quota_set_connections(im->quotas, address), .burst_ns = burst_ns(&b->config, QUOTA_CONNECTIONS)};
    if (l.rate == 0) return 0;
    l.name = quota_name(b->quotas, QUOTA_CONNECTIONS, l.rate, STR_NULL, address);
    int64_t wait_ns = quota_try(b->quotas, &l, 1, now_ns);
    return MIN(wait_ns, b->config.quota_window_seconds * SECOND_NS);
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

bool quota_answer_has_pause(int16_t api_key, int16_t version) {
    switch (api_key) {
    case 0: case 17: case 18: case 27: case 36: case 38: case 39: case 40: case 41: case 47: case 55: return false; /* elsewhere, or nowhere */
    case 1: case 10: case 12: case 13: case 14: case 15: case 16: case 20: return version >= 1;
    case 2: case 11: case 19: case 23: return version >= 2;
    case 3: case 8: case 9: return version >= 3;
    default: return true;
    }
}
