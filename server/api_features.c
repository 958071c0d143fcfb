/* api_features.c - UpdateFeatures (KIP-584, KIP-778): all updates of a request or none. */
#include <stdio.h>
#include "proto/kafka_messages.h"
#include "server/api.h"
#include "server/controller.h"

enum upgrade_type { UPGRADE = 1, SAFE_DOWNGRADE = 2, UNSAFE_DOWNGRADE = 3 };

struct features_state {
    struct request *rq;
    struct k_update_features_request in;
    int16_t error;
    struct str why;
    struct controller_change change;
};

static enum upgrade_type type_of(const struct features_state *s, const struct k_update_features_request_feature_updates *u) {
    if (request_version(s->rq) == 0) return u->allow_downgrade ? SAFE_DOWNGRADE : UPGRADE;
    return (enum upgrade_type)u->upgrade_type;
}

static void refuse(struct features_state *s, int16_t error, const struct k_update_features_request_feature_updates *u, const char *why) {
    s->error = error;
    s->why = request_printf(s->rq, "The update failed for all features since the following feature had an error: Invalid update "
                            "version %d for feature %.*s. %s", u->max_version_level, (int)MIN(u->feature.len, 100), u->feature.p, why);
}

static void check(struct features_state *s, const struct k_update_features_request_feature_updates *u, const struct image *im) {
    const struct feature *f = feature_find(u->feature);
    enum upgrade_type type = type_of(s, u);
    int16_t level = u->max_version_level;
    int16_t now = f ? im->feature_levels[feature_index(f)] : 0;
    int32_t self = request_broker(s->rq)->config.node_id;
    char text[128];
    if (type < UPGRADE || type > UNSAFE_DOWNGRADE) {
        refuse(s, KERR_INVALID_REQUEST, u, "The controller does not support the given upgrade type.");
    } else if (level < 0) {
        refuse(s, KERR_INVALID_UPDATE_VERSION, u, "A feature version cannot be less than 0.");
    } else if (!f) {
        snprintf(text, sizeof text, "Local controller %d does not support this feature.", self);
        refuse(s, KERR_INVALID_UPDATE_VERSION, u, text);
    } else if (level < f->min || level > f->max) {
        snprintf(text, sizeof text, "Local controller %d only supports versions %d-%d", self, f->min, f->max);
        refuse(s, KERR_INVALID_UPDATE_VERSION, u, text);
    } else if (level < now && type == UPGRADE) {
        refuse(s, KERR_INVALID_UPDATE_VERSION, u,
               "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.");
    } else if (level > now && type != UPGRADE && request_version(s->rq) > 0) {
        refuse(s, KERR_INVALID_UPDATE_VERSION, u, "Can't downgrade to a newer version.");
    }
}

static void make(struct controller_change *ch, struct controller_edit *e) {
    struct features_state *s = ch->owner;
    const struct image *im = controller_edit_image(e);
    int32_t n = MAX(s->in.feature_updates_n, 0);
    for (int32_t i = 0; i < n && !s->error; i++) check(s, &s->in.feature_updates[i], im);
    for (int32_t i = 0; i < n && !s->error && !s->in.validate_only; i++) {
        const struct feature *f = feature_find(s->in.feature_updates[i].feature);
        int16_t level = s->in.feature_updates[i].max_version_level;
        if (level != im->feature_levels[feature_index(f)]) controller_set_feature(e, f, level);
    }
}

static void reply(struct features_state *s) {
    struct k_update_features_response out;
    k_update_features_response_init(&out);
    out.error_code = s->error;
    out.error_message = s->error ? s->why : STR_NULL;
    int32_t n = request_version(s->rq) < 2 ? MAX(s->in.feature_updates_n, 0) : 0;
    out.results = request_alloc(s->rq, (size_t)n, sizeof *out.results);
    if (!out.results) return;
    out.results_n = n;
    for (int32_t i = 0; i < n; i++)
        out.results[i] = (struct k_update_features_response_results){s->in.feature_updates[i].feature, s->error, out.error_message};
    struct wire_writer *w = request_reply_begin(s->rq);
    k_update_features_response_encode(&out, w, request_version(s->rq));
    request_reply(s->rq);
}

static void done(struct controller_change *ch) {
    struct features_state *s = ch->owner;
    if (api_change_failed(ch, s->error)) {
        s->error = api_change_error(ch->err);
        s->why = str_from(err_str(ch->err));
    }
    reply(s);
}

/* A feature twice would make the outcome depend on the order. */
static bool find_twice(struct features_state *s) {
    size_t n = (size_t)MAX(s->in.feature_updates_n, 0);
    struct name_set seen;
    struct str *names = request_alloc(s->rq, n, sizeof *names);
    if (!names || !name_set_init(&seen, s->rq, names, n)) return false;
    for (size_t i = 0; i < n; i++) {
        names[i] = s->in.feature_updates[i].feature;
        if (name_set_add(&seen, (int32_t)i) < 0) continue;
        s->error = KERR_INVALID_REQUEST;
        s->why = STR_LIT("A feature is named twice.");
    }
    return true;
}

void api_update_features(struct request *rq) {
    struct features_state *s = request_alloc(rq, 1, sizeof *s);
    if (!s) return;
    s->rq = rq;
    if (!request_decoded(rq, k_update_features_request_decode(&s->in, &rq->body, request_version(rq)))) return;
    if (!find_twice(s)) return;
    if (s->error) {
        reply(s);
        return;
    }
    s->change = (struct controller_change){.caller = rq->reactor, .make = make, .done = done, .owner = s};
    controller_submit(request_broker(rq)->controller, &s->change);
}
