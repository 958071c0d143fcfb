/* admin_offsets.c - the committed offsets of a group from outside: read, commit, delete. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/admin_groups.h"
#include "proto/kafka_errors.h"
#include "proto/kafka_messages.h"

enum { VERSION_WITH_NAMES = 9, VERSION_WITH_GROUPS = 8, RESULT_BYTES_MAX = 256 << 20 };

/* ---- read ------------------------------------------------------------------------------------- */

struct offsets { struct admin_offsets offsets; struct arena arena; };

static int compare(const void *a, const void *b) {
    const struct admin_offset *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

static void encode_all(const void *message, struct wire_writer *w, int16_t version) {
    const char *group = message;
    struct k_offset_fetch_request m;
    struct k_offset_fetch_request_groups g;
    k_offset_fetch_request_init(&m);
    k_offset_fetch_request_groups_init(&g);
    if (version >= VERSION_WITH_GROUPS) {
        g.group_id = str_from(group);
        g.topics_n = -1;
        m.groups = &g;
        m.groups_n = 1;
    } else {
        m.group_id = str_from(group);
        m.topics_n = -1;
    }
    k_offset_fetch_request_encode(&m, w, version);
}

static enum err decode_all(void *m, struct wire_reader *r, int16_t version) { return k_offset_fetch_response_decode(m, r, version); }

static void fetch_result(const void *response, struct admin_result *out) {
    const struct k_offset_fetch_response *m = response;
    *out = (struct admin_result){true, m->groups_n == 1 ? m->groups[0].error_code : m->error_code, STR_NULL};
}

struct filling { struct offsets *into; struct admin_offset *rows; int32_t count; bool full; };

static void add(struct filling *f, struct str topic, int32_t partition, int64_t offset, int32_t epoch, struct str metadata, int16_t code) {
    if (offset < 0 && code == KERR_NONE) return;
    struct admin_offset *row = &f->rows[f->count++];
    *row = (struct admin_offset){arena_strdup(&f->into->arena, topic), partition, offset, epoch, arena_strdup(&f->into->arena, metadata), code};
    if (!row->topic || !row->metadata) f->full = true;
}

/* In both shapes of the answer. */
static bool copy_offsets(struct offsets *s, const struct k_offset_fetch_response *m) {
    struct filling f = {.into = s};
    size_t room = 1;
    const struct k_offset_fetch_response_groups *g = m->groups_n == 1 ? &m->groups[0] : NULL;
    for (int32_t i = 0; i < m->topics_n; i++) room += (size_t)MAX(m->topics[i].partitions_n, 0);
    for (int32_t i = 0; g && i < g->topics_n; i++) room += (size_t)MAX(g->topics[i].partitions_n, 0);
    f.rows = arena_array(&s->arena, room, sizeof *f.rows);
    if (!f.rows) return false;
    for (int32_t i = 0; i < m->topics_n; i++) {
        for (int32_t j = 0; j < m->topics[i].partitions_n; j++) {
            const struct k_offset_fetch_response_topics_partitions *p = &m->topics[i].partitions[j];
            add(&f, m->topics[i].name, p->partition_index, p->committed_offset, p->committed_leader_epoch, p->metadata, p->error_code);
        }
    }
    for (int32_t i = 0; g && i < g->topics_n; i++) {
        for (int32_t j = 0; j < g->topics[i].partitions_n; j++) {
            const struct k_offset_fetch_response_groups_topics_partitions *p = &g->topics[i].partitions[j];
            add(&f, g->topics[i].name, p->partition_index, p->committed_offset, p->committed_leader_epoch, p->metadata, p->error_code);
        }
    }
    if (!f.full && f.count > 1) qsort(f.rows, (size_t)f.count, sizeof *f.rows, compare);
    s->offsets = (struct admin_offsets){f.rows, f.count};
    return !f.full;
}

enum err admin_group_offsets(struct client *c, const char *group, int32_t timeout_ms, struct admin_offsets **out) {
    struct k_offset_fetch_response res;
    struct client_broker coordinator;
    struct client_reply reply;
    char what[300], host[256];
    snprintf(what, sizeof what, "offsets of group \"%s\"", group);
    struct client_exchange x = {.api_key = API_OFFSET_FETCH, .version_max = VERSION_WITH_NAMES, .request = group, .encode = encode_all,
                                .response = &res, .decode = decode_all};
    struct offsets *s = calloc(1, sizeof *s);
    if (!s) return client_fail(c, ERR_NOMEM, 0, "out of memory");
    arena_init(&s->arena, RESULT_BYTES_MAX);
    enum err err = group_admin_run(c, group, &x, timeout_ms, true, fetch_result, what, &coordinator, host, &reply);
    if (!err) {
        if (!copy_offsets(s, &res)) err = client_fail(c, ERR_NOMEM, 0, "out of memory");
        client_reply_free(&reply);
    }
    if (err) admin_offsets_free(&s->offsets);
    else *out = &s->offsets;
    return err;
}

void admin_offsets_free(struct admin_offsets *offsets) {
    if (!offsets) return;
    struct offsets *s = CONTAINER_OF(offsets, struct offsets, offsets);
    arena_free(&s->arena);
    free(s);
}

/* ---- commit, delete --------------------------------------------------------------------------- */

struct change { const char *group; struct admin_offset *offsets; int32_t count; };

static int32_t run_length(const struct change *ch, int32_t at) {
    int32_t n = 1;
    while (at + n < ch->count && strcmp(ch->offsets[at + n].topic, ch->offsets[at].topic) == 0) n++;
    return n;
}

static struct admin_offset *find(const struct change *ch, struct str topic, int32_t partition) {
    for (int32_t i = 0; i < ch->count; i++) {
        if (ch->offsets[i].partition == partition && str_is(topic, ch->offsets[i].topic)) return &ch->offsets[i];
    }
    return NULL;
}

static void encode_commit(const void *message, struct wire_writer *w, int16_t version) {
    const struct change *ch = message;
    struct k_offset_commit_request m;
    struct k_offset_commit_request_topics *topics = calloc((size_t)ch->count + 1, sizeof *topics);
    struct k_offset_commit_request_topics_partitions *parts = calloc((size_t)ch->count + 1, sizeof *parts);
    k_offset_commit_request_init(&m);
    m.group_id = str_from(ch->group);
    m.topics = topics;
    if (!topics || !parts) w->err = ERR_NOMEM;
    for (int32_t i = 0, n; topics && parts && i < ch->count; i += n) {
        struct k_offset_commit_request_topics *t = &topics[m.topics_n++];
        k_offset_commit_request_topics_init(t);
        n = run_length(ch, i);
        t->name = str_from(ch->offsets[i].topic);
        t->partitions = &parts[i];
        t->partitions_n = n;
        for (int32_t j = i; j < i + n; j++) {
            k_offset_commit_request_topics_partitions_init(&parts[j]);
            parts[j].partition_index = ch->offsets[j].partition;
            parts[j].committed_offset = ch->offsets[j].offset;
            parts[j].committed_leader_epoch = ch->offsets[j].leader_epoch;
            parts[j].committed_metadata = str_from(ch->offsets[j].metadata ? ch->offsets[j].metadata : "");
        }
    }
    k_offset_commit_request_encode(&m, w, version);
    free(topics);
    free(parts);
}

static enum err decode_commit(void *m, struct wire_reader *r, int16_t version) { return k_offset_commit_response_decode(m, r, version); }

static void encode_delete(const void *message, struct wire_writer *w, int16_t version) {
    const struct change *ch = message;
    struct k_offset_delete_request m;
    struct k_offset_delete_request_topics *topics = calloc((size_t)ch->count + 1, sizeof *topics);
    struct k_offset_delete_request_topics_partitions *parts = calloc((size_t)ch->count + 1, sizeof *parts);
    k_offset_delete_request_init(&m);
    m.group_id = str_from(ch->group);
    m.topics = topics;
    if (!topics || !parts) w->err = ERR_NOMEM;
    for (int32_t i = 0, n; topics && parts && i < ch->count; i += n) {
        struct k_offset_delete_request_topics *t = &topics[m.topics_n++];
        k_offset_delete_request_topics_init(t);
        n = run_length(ch, i);
        t->name = str_from(ch->offsets[i].topic);
        t->partitions = &parts[i];
        t->partitions_n = n;
        for (int32_t j = i; j < i + n; j++) parts[j].partition_index = ch->offsets[j].partition;
    }
    k_offset_delete_request_encode(&m, w, version);
    free(topics);
    free(parts);
}

static enum err decode_delete(void *m, struct wire_reader *r, int16_t version) { return k_offset_delete_response_decode(m, r, version); }

/* Codes that are about the group as a whole are worth another try; those of partitions are told one by one. */
static void commit_result(const void *response, struct admin_result *out) {
    const struct k_offset_commit_response *m = response;
    *out = (struct admin_result){m->topics_n > 0, KERR_NONE, STR_NULL};
    if (m->topics_n == 0 || m->topics[0].partitions_n == 0) return;
    int16_t code = m->topics[0].partitions[0].error_code;
    if (code == KERR_NOT_COORDINATOR || code == KERR_COORDINATOR_NOT_AVAILABLE || code == KERR_COORDINATOR_LOAD_IN_PROGRESS) out->code = code;
}

static void offset_delete_result(const void *response, struct admin_result *out) {
    const struct k_offset_delete_response *m = response;
    *out = (struct admin_result){true, m->error_code, STR_NULL};
}

/* The first error of a partition becomes the call's. */
static enum err judge(struct client *c, const struct change *ch, const char *what) {
    for (int32_t i = 0; i < ch->count; i++) {
        int16_t code = ch->offsets[i].error;
        if (code == KERR_NONE) continue;
        char where[600];
        snprintf(where, sizeof where, "%s: %s-%d", what, ch->offsets[i].topic, ch->offsets[i].partition);
        enum err err = client_fail_code(c, code, STR_NULL, "%s", where);
        bool busy = code == KERR_UNKNOWN_MEMBER_ID || code == KERR_ILLEGAL_GENERATION || code == KERR_STALE_MEMBER_EPOCH ||
                    code == KERR_GROUP_SUBSCRIBED_TO_TOPIC || code == KERR_REBALANCE_IN_PROGRESS;
        return busy ? ERR_BUSY : err;
    }
    return OK;
}

enum err admin_alter_group_offsets(struct client *c, const char *group, struct admin_offset *offsets, int32_t count, int32_t timeout_ms) {
    struct change ch = {group, offsets, count};
    struct k_offset_commit_response res;
    struct client_broker coordinator;
    struct client_reply reply;
    char what[300], host[256];
    if (count == 0) return OK;
    snprintf(what, sizeof what, "offsets of group \"%s\"", group);
    struct client_exchange x = {.api_key = API_OFFSET_COMMIT, .version_max = VERSION_WITH_NAMES, .request = &ch, .encode = encode_commit,
                                .response = &res, .decode = decode_commit};
    for (int32_t i = 0; i < count; i++) offsets[i].error = KERR_UNKNOWN_SERVER_ERROR; /* until the answer says */
    enum err err = group_admin_run(c, group, &x, timeout_ms, true, commit_result, what, &coordinator, host, &reply);
    if (err) return err;
    for (int32_t i = 0; i < res.topics_n; i++) {
        for (int32_t j = 0; j < res.topics[i].partitions_n; j++) {
            struct admin_offset *o = find(&ch, res.topics[i].name, res.topics[i].partitions[j].partition_index);
            if (o) o->error = res.topics[i].partitions[j].error_code;
        }
    }
    client_reply_free(&reply);
    return judge(c, &ch, what);
}

enum err admin_delete_group_offsets(struct client *c, const char *group, struct admin_offset *offsets, int32_t count, int32_t timeout_ms) {
    struct change ch = {group, offsets, count};
    struct k_offset_delete_response res;
    struct client_broker coordinator;
    struct client_reply reply;
    char what[300], host[256];
    if (count == 0) return OK;
    snprintf(what, sizeof what, "offsets of group \"%s\"", group);
    struct client_exchange x = {.api_key = API_OFFSET_DELETE, .version_max = INT16_MAX, .request = &ch, .encode = encode_delete,
                                .response = &res, .decode = decode_delete};
    for (int32_t i = 0; i < count; i++) offsets[i].error = KERR_UNKNOWN_SERVER_ERROR;
    enum err err = group_admin_run(c, group, &x, timeout_ms, true, offset_delete_result, what, &coordinator, host, &reply);
    if (err) return err;
    for (int32_t i = 0; i < res.topics_n; i++) {
        for (int32_t j = 0; j < res.topics[i].partitions_n; j++) {
            struct admin_offset *o = find(&ch, res.topics[i].name, res.topics[i].partitions[j].partition_index);
            if (o) o->error = res.topics[i].partitions[j].error_code;
        }
    }
    client_reply_free(&reply);
    return judge(c, &ch, what);
}
