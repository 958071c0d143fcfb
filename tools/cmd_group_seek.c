/* cmd_group_seek.c - varve group seek: moves the committed offsets of a group without members. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include "base/assert.h"
#include "tools/cli.h"
#include "tools/json_out.h"
#include "tools/seek_where.h"

enum { FILE_ROWS_MAX = 1 << 20 };

struct move {
    char *topic;                  /* owned */
    int32_t partition;
    int64_t current, wanted, target; /* committed, -1: none; of a file, -1: by --to; where it goes */
};
struct plan {
    const struct options *o;
    struct client *client;
    const char *group;
    struct where where;
    struct move *moves;
    int32_t count;
};

static void add(struct plan *p, const char *topic, size_t len, int32_t partition, int64_t wanted) {
    for (int32_t i = 0; i < p->count; i++) {
        struct move *m = &p->moves[i];
        if (m->partition != partition || strlen(m->topic) != len || memcmp(m->topic, topic, len) != 0) continue;
        m->wanted = wanted; /* the last one counts */
        return;
    }
    p->moves = realloc(p->moves, ((size_t)p->count + 1) * sizeof *p->moves);
    ASSERT(p->moves != NULL);
    p->moves[p->count] = (struct move){strndup(topic, len), partition, -1, wanted, -1};
    ASSERT(p->moves[p->count].topic != NULL);
    p->count++;
}

static int compare_moves(const void *a, const void *b) {
    const struct move *x = a, *y = b;
    int order = strcmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* ---- what is to be moved --------------------------------------------------------------------- */

static int from_file(struct plan *p) {
    const char *name = p->o->from_file;
    FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "r");
    char *line = NULL;
    size_t room = 0;
    int code = EXIT_OK, number = 0;
    if (!f) {
        fprintf(stderr, "varve group seek: %s: %s\n", name, strerror(errno));
        return EXIT_FAILED;
    }
    while (code == EXIT_OK && getline(&line, &room, f) >= 0) {
        struct csv_row row;
        number++;
        if (line[strspn(line, " \t\r\n")] == '\0') continue;
        if (!csv_parse(line, &row) || p->count >= FILE_ROWS_MAX) {
            fprintf(stderr, "varve group seek: %s line %d: not TOPIC,PARTITION,OFFSET\n", name, number);
            code = EXIT_FAILED;
        } else if (!row.group || strcmp(row.group, p->group) == 0) {
            add(p, row.topic, strlen(row.topic), row.partition, row.offset);
        }
    }
    if (code == EXIT_OK && ferror(f)) {
        fprintf(stderr, "varve group seek: %s: %s\n", name, strerror(errno));
        code = EXIT_FAILED;
    }
    free(line);
    if (f != stdin) fclose(f);
    return code;
}

static int from_scope(struct plan *p, const char *scope) {
    const char *partitions;
    char topic[256];
    int32_t largest, count;
    size_t len = scope_topic(scope, &partitions);
    if (!scope_valid(partitions, &largest) || len >= sizeof topic) {
        fprintf(stderr, "varve group seek: \"%s\" is not TOPIC or TOPIC:P,P\n", scope);
        return EXIT_USAGE;
    }
    snprintf(topic, sizeof topic, "%.*s", (int)len, scope);
    enum err err = client_partition_count(p->client, topic, false, p->o->timeout_ms, &count);
    if (err != OK) return cli_failed(p->o, p->client, err, topic);
    if (largest >= count) {
        fprintf(stderr, "varve group seek: %s has no partition %d, only %d\n", topic, largest, count);
        return EXIT_FAILED;
    }
    for (int32_t i = 0; i < count; i++)
        if (scope_has(scope, topic, i)) add(p, topic, len, i, -1);
    return EXIT_OK;
}

static int choose(struct plan *p, const struct admin_offsets *committed) {
    int code = p->o->from_file ? from_file(p) : EXIT_OK;
    for (int32_t i = 0; i < p->o->topic_count && code == EXIT_OK; i++) code = from_scope(p, p->o->topics[i]);
    for (int32_t i = 0; i < committed->count && code == EXIT_OK; i++) {
        const struct admin_offset *c = &committed->offsets[i];
        if (p->o->all_topics) add(p, c->topic, strlen(c->topic), c->partition, -1);
    }
    for (int32_t i = 0; i < p->count; i++)
        for (int32_t j = 0; j < committed->count; j++)
            if (committed->offsets[j].partition == p->moves[i].partition && strcmp(committed->offsets[j].topic, p->moves[i].topic) == 0)
                p->moves[i].current = committed->offsets[j].offset;
    if (p->count > 1) qsort(p->moves, (size_t)p->count, sizeof *p->moves, compare_moves);
    return code;
}

/* ---- where to -------------------------------------------------------------------------------- */

static int64_t shifted(int64_t from, int64_t by) {
    int64_t sum;
    return __builtin_add_overflow(from, by, &sum) ? (by < 0 ? 0 : INT64_MAX) : sum;
}

static int aim(struct plan *p, struct move *m) {
    struct client_offset begin, end, at;
    char what[300];
    snprintf(what, sizeof what, "%s-%d", m->topic, m->partition);
    enum err err = client_list_offset(p->client, m->topic, m->partition, OFFSET_EARLIEST, p->o->timeout_ms, &begin);
    if (err == OK) err = client_list_offset(p->client, m->topic, m->partition, OFFSET_LATEST, p->o->timeout_ms, &end);
    if (err != OK) return cli_failed(p->o, p->client, err, what);
    m->target = m->wanted;
    if (m->wanted < 0) {
        switch (p->where.kind) {
        case WHERE_EARLIEST: m->target = begin.offset; break;
        case WHERE_LATEST: m->target = end.offset; break;
        case WHERE_OFFSET: m->target = p->where.n; break;
        case WHERE_CURRENT: m->target = m->current >= 0 ? m->current : end.offset; break;
        case WHERE_SHIFT:
            if (m->current < 0) {
                fprintf(stderr, "varve group seek: %s: nothing is committed that could be shifted\n", what);
                return EXIT_FAILED;
            }
            m->target = shifted(m->current, p->where.n);
            break;
        case WHERE_TIME:
            err = client_list_offset(p->client, m->topic, m->partition, p->where.n, p->o->timeout_ms, &at);
            if (err != OK) return cli_failed(p->o, p->client, err, what);
            m->target = at.offset >= 0 ? at.offset : end.offset;
            break;
        }
    }
    m->target = MAX(begin.offset, MIN(m->target, end.offset));
    return EXIT_OK;
}

/* ---- doing and showing ----------------------------------------------------------------------- */

static int execute(struct plan *p) {
    struct admin_offset *offsets = calloc((size_t)p->count + 1, sizeof *offsets);
    ASSERT(offsets != NULL);
    for (int32_t i = 0; i < p->count; i++)
        offsets[i] = (struct admin_offset){.topic = p->moves[i].topic, .partition = p->moves[i].partition, .offset = p->moves[i].target,
                                           .leader_epoch = -1};
    enum err err = admin_alter_group_offsets(p->client, p->group, offsets, p->count, p->o->timeout_ms);
    free(offsets);
    return err == OK ? EXIT_OK : cli_failed(p->o, p->client, err, NULL);
}

static void show(const struct plan *p) {
    struct table t;
    struct json_out json;
    table_init(&t, "GROUP TOPIC >PARTITION >CURRENT-OFFSET >NEW-OFFSET");
    json_init(&json, stdout);
    for (int32_t i = 0; i < p->count; i++) {
        const struct move *m = &p->moves[i];
        table_cell(&t, "%s", p->group);
        table_cell(&t, "%s", m->topic);
        table_cell(&t, "%d", m->partition);
        table_cell(&t, m->current < 0 ? "-" : "%lld", (long long)m->current);
        table_cell(&t, "%lld", (long long)m->target);
        if (p->o->export_csv) printf("%s,%d,%lld\n", m->topic, m->partition, (long long)m->target);
        if (!p->o->json) continue;
        json_object(&json, NULL);
        json_text(&json, "group", p->group);
        json_text(&json, "topic", m->topic);
        json_i64(&json, "partition", m->partition);
        if (m->current < 0) json_null(&json, "current");
        else json_i64(&json, "current", m->current);
        json_i64(&json, "new", m->target);
        json_bool(&json, "executed", p->o->execute);
        json_object_end(&json);
        json_line(&json);
    }
    if (p->o->json || p->o->export_csv) table_free(&t);
    else table_print(&t);
}

/* Whether the group may be moved: nobody must be reading. A group that is not there yet may. */
static int check_empty(const struct plan *p) {
    struct admin_group_details *g;
    enum err err = admin_describe_group(p->client, p->group, p->o->timeout_ms, &g);
    if (err == ERR_NOT_FOUND) return EXIT_OK;
    if (err != OK) return cli_failed(p->o, p->client, err, NULL);
    int32_t members = g->member_count;
    if (members > 0) {
        fprintf(stderr, "varve group seek: the group \"%s\" is %s and has %d member%s, who would commit over it: stop them first\n", p->group,
                g->state, members, members == 1 ? "" : "s");
    }
    admin_group_details_free(g);
    return members > 0 && p->o->execute ? EXIT_FAILED : EXIT_OK;
}

static int seek(struct plan *p) {
    struct admin_offsets *committed;
    int code = check_empty(p);
    if (code != EXIT_OK) return code;
    enum err err = admin_group_offsets(p->client, p->group, p->o->timeout_ms, &committed);
    if (err != OK) return cli_failed(p->o, p->client, err, NULL);
    code = choose(p, committed);
    admin_offsets_free(committed);
    for (int32_t i = 0; i < p->count && code == EXIT_OK; i++) code = aim(p, &p->moves[i]);
    if (code == EXIT_OK && p->o->execute) code = execute(p);
    if (code != EXIT_OK) return code;
    show(p);
    if (!p->o->execute && !p->o->export_csv && !p->o->quiet && !p->o->json) fprintf(stderr, "nothing was changed: --execute does it\n");
    return EXIT_OK;
}

int cmd_group_seek(const struct options *o) {
    struct plan p = {.o = o, .group = o->args[0]};
    struct timespec now;
    int code;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *wrong = NULL;
    if (!o->to == !o->from_file) wrong = "give --to or --from-file";
    else if (o->from_file && (o->topic_count > 0 || o->all_topics)) wrong = "--from-file says which partitions";
    else if (!o->from_file && (o->topic_count == 0) == !o->all_topics) wrong = "give --topic or --all-topics";
    if (wrong) {
        fprintf(stderr, "varve group seek: %s\ntry: varve group seek --help\n", wrong);
        return EXIT_USAGE;
    }
    if (o->to && !where_parse(o->to, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, &p.where)) {
        fprintf(stderr, "varve group seek: \"%s\" is not a value for --to\ntry: varve group seek --help\n", o->to);
        return EXIT_USAGE;
    }
    p.client = cli_connect(o, &code);
    if (!p.client) return code;
    code = seek(&p);
    for (int32_t i = 0; i < p.count; i++) free(p.moves[i].topic);
    free(p.moves);
    client_destroy(p.client);
    return code;
}
