/* api_security.c - what tools ask about security where there is none: ACLs are answered as by a Kafka without
 * authorizer, SCRAM credentials as by one that has none. */
#include "proto/kafka_messages.h"
#include "server/api.h"

static const struct str no_authorizer = STR_LIT("No Authorizer is configured.");

void api_describe_acls(struct request *rq) {
    struct k_describe_acls_request m;
    struct k_describe_acls_response out;
    if (!request_decoded(rq, k_describe_acls_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_describe_acls_response_init(&out);
    out.error_code = KERR_SECURITY_DISABLED;
    out.error_message = no_authorizer;
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_acls_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}

void api_create_acls(struct request *rq) {
    struct k_create_acls_request m;
    struct k_create_acls_response out;
    if (!request_decoded(rq, k_create_acls_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_create_acls_response_init(&out);
    int32_t n = MAX(m.creations_n, 0);
    out.results = request_alloc(rq, (size_t)n, sizeof *out.results);
    if (!out.results) return;
    out.results_n = n;
    for (int32_t i = 0; i < n; i++)
        out.results[i] = (struct k_create_acls_response_results){KERR_SECURITY_DISABLED, no_authorizer};
    struct wire_writer *w = request_reply_begin(rq);
    k_create_acls_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}

void api_delete_acls(struct request *rq) {
    struct k_delete_acls_request m;
    struct k_delete_acls_response out;
    if (!request_decoded(rq, k_delete_acls_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_delete_acls_response_init(&out);
    int32_t n = MAX(m.filters_n, 0);
    out.filter_results = request_alloc(rq, (size_t)n, sizeof *out.filter_results);
    if (!out.filter_results) return;
    out.filter_results_n = n;
    for (int32_t i = 0; i < n; i++) {
        k_delete_acls_response_filter_results_init(&out.filter_results[i]);
        out.filter_results[i].error_code = KERR_SECURITY_DISABLED;
        out.filter_results[i].error_message = no_authorizer;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_delete_acls_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}

/* All users: none. A user that is named twice is refused, as in Kafka. */
void api_describe_user_scram_credentials(struct request *rq) {
    struct k_describe_user_scram_credentials_request m;
    struct k_describe_user_scram_credentials_response out;
    if (!request_decoded(rq, k_describe_user_scram_credentials_request_decode(&m, &rq->body, request_version(rq)))) return;
    k_describe_user_scram_credentials_response_init(&out);
    out.error_message = STR_NULL;
    size_t n = (size_t)MAX(m.users_n, 0);
    struct name_set seen;
    struct str *names = request_alloc(rq, n, sizeof *names);
    if (!names || !name_set_init(&seen, rq, names, n)) return;
    out.results = request_alloc(rq, n, sizeof *out.results);
    if (!out.results) return;
    for (size_t i = 0; i < n; i++) {
        struct k_describe_user_scram_credentials_response_results *r = &out.results[out.results_n];
        names[out.results_n] = m.users[i].name;
        int32_t before = name_set_add(&seen, out.results_n);
        if (before >= 0) {
            out.results[before].error_code = KERR_DUPLICATE_RESOURCE;
            out.results[before].error_message = STR_LIT("Cannot describe SCRAM credentials for the same user twice in a single request");
            continue;
        }
        k_describe_user_scram_credentials_response_results_init(r);
        r->user = m.users[i].name;
        r->error_code = KERR_RESOURCE_NOT_FOUND;
        r->error_message = STR_LIT("There are no SCRAM credentials of this user.");
        out.results_n++;
    }
    struct wire_writer *w = request_reply_begin(rq);
    k_describe_user_scram_credentials_response_encode(&out, w, request_version(rq));
    request_reply(rq);
}
