/* quota_set.c - see quota_set.h. */
#include "server/quota_set.h"
#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>
#include "base/assert.h"

static const char *const type_names[QUOTA_TYPES] = {"user", "client-id", "ip"};
static const char *const key_names[QUOTA_KEYS] = {"producer_byte_rate", "consumer_byte_rate", "request_percentage",
                                                  "controller_mutation_rate", "connection_creation_rate"};

const char *quota_type_name(enum quota_type type) { return type_names[type]; }
const char *quota_key_name(enum quota_key key) { return key_names[key]; }

static bool find_name(const char *const *names, int count, struct str name, int *found) {
    for (*found = 0; *found < count; ++*found)
        if (str_is(name, names[*found])) return true;
    return false;
}
bool quota_type_find(struct str name, enum quota_type *type) {
    int found;
    if (!find_name(type_names, QUOTA_TYPES, name, &found)) return false;
    *type = (enum quota_type)found;
    return true;
}
bool quota_key_find(struct str name, enum quota_key *key) {
    int found;
    if (!find_name(key_names, QUOTA_KEYS, name, &found)) return false;
    *key = (enum quota_key)found;
    return true;
}

/* ---- checks ----------------------------------------------------------------------------------------- */

bool quota_address(struct str text, char out[QUOTA_ADDRESS_BYTES]) {
    char z[QUOTA_ADDRESS_BYTES];
    struct in6_addr v6;
    struct in_addr v4;
    if (!text.p || text.len <= 0 || text.len >= QUOTA_ADDRESS_BYTES || memchr(text.p, 0, (size_t)text.len)) return false;
    memcpy(z, text.p, (size_t)text.len);
    z[text.len] = 0;
    if (inet_pton(AF_INET, z, &v4) == 1) return inet_ntop(AF_INET, &v4, out, QUOTA_ADDRESS_BYTES) != NULL;
    if (inet_pton(AF_INET6, z, &v6) != 1) return false;
    if (IN6_IS_ADDR_V4MAPPED(&v6)) return inet_ntop(AF_INET, v6.s6_addr + 12, out, QUOTA_ADDRESS_BYTES) != NULL;
    return inet_ntop(AF_INET6, &v6, out, QUOTA_ADDRESS_BYTES) != NULL;
}

const char *quota_entity_problem(const struct quota_entity *e) {
    char address[QUOTA_ADDRESS_BYTES];
    if (!e->has[QUOTA_USER] && !e->has[QUOTA_CLIENT] && !e->has[QUOTA_IP]) return "Invalid empty client quota entity";
    if (e->has[QUOTA_IP] && (e->has[QUOTA_USER] || e->has[QUOTA_CLIENT]))
        return "Invalid quota entity combination, IP entity should not be combined with User or ClientId";
    for (int t = 0; t < QUOTA_TYPES; t++) {
        if (!e->has[t] || !e->name[t].p) continue;
        if (e->name[t].len == 0) return "An empty entity name is not supported";
        if (e->name[t].len > QUOTA_NAME_BYTES_MAX) return "An entity name is longer than 512 bytes";
    }
    if (e->has[QUOTA_IP] && e->name[QUOTA_IP].p && !quota_address(e->name[QUOTA_IP], address))
        return "The name of an ip entity is not a valid IP address";
    return NULL;
}

const char *quota_value_problem(const struct quota_entity *e, enum quota_key key, double value) {
    const double epsilon = 1e-6;
    if (e->has[QUOTA_IP] != (key == QUOTA_CONNECTIONS)) return "Invalid configuration key for this entity";
    if (!isfinite(value)) return "The quota must be a finite number";
    if (value <= 0) return "The quota must be greater than 0";
    if (key == QUOTA_REQUEST_PERCENT || key == QUOTA_CONTROLLER_CHANGES) return NULL;
    if (value > (key == QUOTA_CONNECTIONS ? (double)INT32_MAX : (double)INT64_MAX)) return "The quota is too large";
    if (fabs(value - floor(value + epsilon)) > epsilon) return "The quota must be a whole number";
    return NULL;
}

/* ---- the list ----------------------------------------------------------------------------------------- */

static int order_names(struct str a, struct str b) {
    if (!a.p || !b.p) return (a.p != NULL) - (b.p != NULL);
    int c = memcmp(a.p, b.p, (size_t)MIN(a.len, b.len));
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int order(const struct quota_entity *a, const struct quota_entity *b) {
    for (int t = 0; t < QUOTA_TYPES; t++)
        if (a->has[t] != b->has[t]) return a->has[t] ? -1 : 1;
    for (int t = 0; t < QUOTA_TYPES; t++) {
        int c = a->has[t] ? order_names(a->name[t], b->name[t]) : 0;
        if (c) return c;
    }
    return 0;
}

static uint32_t position(const struct quota_set *s, const struct quota_entity *e, bool *found) {
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (order(&s->list[mid]->entity, e) < 0) low = mid + 1;
        else high = mid;
    }
    *found = low < s->count && order(&s->list[low]->entity, e) == 0;
    return low;
}

static struct quota *quota_new(const struct quota_entity *e, const double *values) {
    size_t bytes = 0;
    for (int t = 0; t < QUOTA_TYPES; t++)
        if (e->has[t] && e->name[t].p) bytes += (size_t)e->name[t].len;
    struct quota *q = calloc(1, sizeof *q + bytes);
    if (!q) return NULL;
    char *text = (char *)(q + 1);
    q->refs = 1;
    for (int t = 0; t < QUOTA_TYPES; t++) {
        q->entity.has[t] = e->has[t];
        if (!e->has[t] || !e->name[t].p) continue;
        memcpy(text, e->name[t].p, (size_t)e->name[t].len);
        q->entity.name[t] = (struct str){text, e->name[t].len};
        text += e->name[t].len;
    }
    if (values) memcpy(q->values, values, sizeof q->values);
    return q;
}

static void quota_unref(struct quota *q) {
    ASSERT(q->refs > 0);
    if (--q->refs == 0) free(q);
}

struct quota_set *quota_set_copy(const struct quota_set *from, uint64_t edition) {
    struct quota_set *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    if (from) *s = *from;
    s->edition = edition;
    s->cap = s->count + 8;
    s->list = malloc(s->cap * sizeof *s->list);
    if (!s->list) {
        free(s);
        return NULL;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        s->list[i] = from->list[i];
        s->list[i]->refs++;
    }
    return s;
}

void quota_set_free(struct quota_set *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->count; i++) quota_unref(s->list[i]);
    free(s->list);
    free(s);
}

static void remove_at(struct quota_set *s, uint32_t at) {
    quota_unref(s->list[at]);
    s->count--;
    memmove(&s->list[at], &s->list[at + 1], (s->count - at) * sizeof *s->list);
}

static bool sets_nothing(const struct quota *q) {
    for (int k = 0; k < QUOTA_KEYS; k++)
        if (q->values[k] > 0) return false;
    return true;
}

static enum err insert_at(struct quota_set *s, uint32_t at, struct quota *q) {
    if (s->count == s->cap) {
        struct quota **grown = realloc(s->list, 2 * (size_t)s->cap * sizeof *grown);
        if (!grown) return ERR_NOMEM;
        s->list = grown;
        s->cap *= 2;
    }
    memmove(&s->list[at + 1], &s->list[at], (s->count - at) * sizeof *s->list);
    s->list[at] = q;
    s->count++;
    return OK;
}

enum err quota_set_put(struct quota_set *s, const struct quota_entity *e, enum quota_key key, double value) {
    bool found;
    if (quota_entity_problem(e) || (value != 0 && quota_value_problem(e, key, value))) return ERR_INVALID;
    uint32_t at = position(s, e, &found);
    if (!found && value == 0) return OK;
    struct quota *q = quota_new(e, found ? s->list[at]->values : NULL);
    if (!q) return ERR_NOMEM;
    s->setting[key] += (value > 0) - (q->values[key] > 0);
    q->values[key] = value;
    if (!found) {
        enum err err = insert_at(s, at, q);
        if (err == OK) return OK;
        s->setting[key]--;
        quota_unref(q);
        return err;
    }
    quota_unref(s->list[at]); /* others may show it as it was */
    s->list[at] = q;
    if (sets_nothing(q)) remove_at(s, at);
    return OK;
}

const struct quota *quota_set_find(const struct quota_set *s, const struct quota_entity *e) {
    bool found = false;
    uint32_t at = s ? position(s, e, &found) : 0;
    return found ? s->list[at] : NULL;
}

/* ---- what applies -------------------------------------------------------------------------------------- */

enum part { NOT, NAMED, DEFAULT };

static double value_of(const struct quota_set *s, enum quota_key key, enum part user_part, struct str user,
                       enum part client_part, struct str client) {
    struct quota_entity e = {.has = {[QUOTA_USER] = user_part != NOT, [QUOTA_CLIENT] = client_part != NOT}};
    if (user_part == NAMED) e.name[QUOTA_USER] = user;
    if (client_part == NAMED) e.name[QUOTA_CLIENT] = client;
    const struct quota *q = quota_set_find(s, &e);
    return q ? q->values[key] : 0;
}

double quota_set_limit(const struct quota_set *s, enum quota_key key, struct str user, struct str client, bool *by_user,
                       bool *by_client) {
    static const enum part levels[][2] = {{NAMED, NAMED}, {NAMED, DEFAULT}, {NAMED, NOT}, {DEFAULT, NAMED},
                                          {DEFAULT, DEFAULT}, {DEFAULT, NOT}, {NOT, NAMED}, {NOT, DEFAULT}};
    *by_user = *by_client = false;
    if (!s || s->setting[key] == 0) return 0;
    if (!client.p) client = STR_LIT("");
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        double value = value_of(s, key, levels[i][0], user, levels[i][1], client);
        if (value == 0) continue;
        *by_user = levels[i][0] != NOT;
        *by_client = levels[i][1] != NOT;
        return value;
    }
    return 0;
}

double quota_set_connections(const struct quota_set *s, struct str address) {
    if (!s || s->setting[QUOTA_CONNECTIONS] == 0) return 0;
    struct quota_entity e = {.has = {[QUOTA_IP] = true}, .name = {[QUOTA_IP] = address}};
    const struct quota *named = quota_set_find(s, &e);
    if (named) return named->values[QUOTA_CONNECTIONS];
    e.name[QUOTA_IP] = STR_NULL;
    const struct quota *other = quota_set_find(s, &e);
    return other ? other->values[QUOTA_CONNECTIONS] : 0;
}
