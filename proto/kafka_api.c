/* kafka_api.c - the table of APIs, headers, names of errors. */
#include "base/compiler.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

const struct kafka_api *kafka_api_all(size_t *count) {
    *count = ARRAY_LEN(kafka_api_rows);
    return kafka_api_rows;
}

const struct kafka_api *kafka_api_by_key(int16_t key) {
    size_t lo = 0, hi = ARRAY_LEN(kafka_api_rows);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (kafka_api_rows[mid].key < key) lo = mid + 1;
        else hi = mid;
    }
    return lo < ARRAY_LEN(kafka_api_rows) && kafka_api_rows[lo].key == key ? &kafka_api_rows[lo] : NULL;
}

/* ---- headers ----------------------------------------------------------------------------- */

static bool flexible(int16_t key, int16_t version) {
    const struct kafka_api *api = kafka_api_by_key(key);
    return api && version >= api->flexible_from;
}

/* A client must be able to read the answer to the very request that asks which versions there
 * are: the response header of ApiVersions has no tags (KIP-511). */
static int16_t response_header_version(int16_t key, int16_t version) {
    return key != API_API_VERSIONS && flexible(key, version) ? 1 : 0;
}

enum err kafka_request_header_read(struct wire_reader *r, struct kafka_request_header *h) {
    *h = (struct kafka_request_header){.client_id = STR_LIT("")};
    h->api_key = wire_get_i16(r);
    h->api_version = wire_get_i16(r);
    h->correlation_id = wire_get_i32(r);
    if (r->err != OK) return r->err;
    const struct kafka_api *api = kafka_api_by_key(h->api_key);
    bool known = api && h->api_version >= api->min_version && h->api_version <= api->max_version;
    bool asks_versions = h->api_key == API_API_VERSIONS && h->api_version > 0;
    if (!known && !asks_versions) return ERR_UNSUPPORTED;
    struct str client_id = wire_get_str(r, false, true);
    if (client_id.p) h->client_id = client_id;
    if (h->api_version >= api->flexible_from) wire_skip_tags(r);
    if (r->err != OK) return r->err;
    return known ? OK : ERR_UNSUPPORTED;
}

void kafka_request_header_write(struct wire_writer *w, const struct kafka_request_header *h) {
    struct k_request_header m = {
        .request_api_key = h->api_key,
        .request_api_version = h->api_version,
        .correlation_id = h->correlation_id,
        .client_id = h->client_id,
    };
    k_request_header_encode(&m, w, flexible(h->api_key, h->api_version) ? 2 : 1);
}

void kafka_response_header_write(struct wire_writer *w, int16_t api_key, int16_t api_version, int32_t correlation_id) {
    struct k_response_header m = {.correlation_id = correlation_id};
    k_response_header_encode(&m, w, response_header_version(api_key, api_version));
}

enum err kafka_response_header_read(struct wire_reader *r, int16_t api_key, int16_t api_version, int32_t *correlation_id) {
    struct k_response_header m;
    enum err err = k_response_header_decode(&m, r, response_header_version(api_key, api_version));
    *correlation_id = m.correlation_id;
    return err;
}

/* ---- errors ------------------------------------------------------------------------------ */

enum retry { RETRY, FINAL };
struct error_row { const char *name; enum retry retry; };

static const struct error_row *error_row(int16_t code) {
#define ERROR_ROW(code, name, retry) {#name, retry},
    static const struct error_row rows[] = {KAFKA_ERRORS(ERROR_ROW)};
#undef ERROR_ROW
    int index = code - KERR_UNKNOWN_SERVER_ERROR;
    return index >= 0 && (size_t)index < ARRAY_LEN(rows) ? &rows[index] : NULL;
}

const char *kafka_error_name(int16_t code) {
    const struct error_row *row = error_row(code);
    return row ? row->name : "UNKNOWN";
}

bool kafka_error_retriable(int16_t code) {
    const struct error_row *row = error_row(code);
    return row && row->retry == RETRY;
}
