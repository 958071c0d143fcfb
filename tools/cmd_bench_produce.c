/* cmd_bench_produce.c - varve bench produce: one encoded Produce request for each group of partitions,
 * sent again and again. */
#include <stdlib.h>
#include <time.h>
#include "base/assert.h"
#include "proto/kafka_messages.h"
#include "proto/wire.h"
#include "tools/bench.h"
#include "tools/cli.h"

enum { VERSION = 7, REQUESTS_BYTES_MAX = 1 << 30, WORDS = 1024, WORD_BYTES = 8 };

/* Partitions of one leader that a request carries a batch each for. */
struct group { int32_t leader; struct wire_writer request; };
struct sender { uint32_t *groups; uint32_t count, next; };    /* of one connection, in turn */
struct run {
    struct group *groups;
    uint32_t group_count;
    uint32_t records, bytes;             /* of one batch */
    uint32_t per_request;
    struct sender *senders;
    int64_t issued, total;               /* requests */
};

/* ---- requests -------------------------------------------------------------------------------- */

/* Text of random words from a list of 1024: a codec makes about half of it. The same for every run. */
static void fill_value(uint8_t *out, size_t len, uint64_t *seed) {
    static const char letters[] = "etaoinshrdlucmfwypvbgkjq";
    for (size_t i = 0; i < len; i++) {
        if (i % WORD_BYTES == 0) *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t word = (*seed >> 33) % WORDS;
        out[i] = i % WORD_BYTES == WORD_BYTES - 1 ? ' ' : (uint8_t)letters[(word * 2654435761u >> (i % WORD_BYTES * 3)) % (sizeof letters - 1)];
    }
}

static bool build_batch(struct run *run, const struct options *o, struct bytes *out) {
    struct batch_builder b;
    uint64_t seed = 1;
    int64_t now_s = (int64_t)time(NULL);
    uint8_t *value = malloc((size_t)o->record_bytes);
    ASSERT(value);
    batch_builder_init(&b, o->codec, (size_t)o->batch_bytes + (size_t)o->record_bytes + 4096);
    run->records = 0;
    while (run->records == 0 || batch_builder_bytes(&b) < (size_t)o->batch_bytes) {
        size_t left = run->records == 0 ? SIZE_MAX : (size_t)o->batch_bytes - batch_builder_bytes(&b), len = (size_t)o->record_bytes;
        if (len + 16 > left) len = left > 16 ? left - 16 : 1;   /* the last one fills the batch up */
        fill_value(value, len, &seed);
        if (batch_builder_add(&b, now_s * 1000, BYTES_NULL, (struct bytes){value, (int32_t)len}, NULL, 0) != OK) break;
        run->records++;
        if (left <= 32) break;
    }
    uint8_t *batch = NULL;
    size_t len = 0;
    bool good = run->records > 0 && batch_builder_finish(&b, &batch, &len) == OK;
    batch_builder_free(&b);
    free(value);
    run->bytes = (uint32_t)len;
    *out = (struct bytes){batch, (int32_t)len};
    return good;
}

static bool build_request(struct group *g, const struct options *o, const char *topic, const int32_t *partitions, uint32_t count,
                          struct bytes batch) {
    struct k_produce_request rq;
    struct k_produce_request_topic_data t;
    struct k_produce_request_topic_data_partition_data *p = calloc(count, sizeof *p);
    ASSERT(p);
    for (uint32_t i = 0; i < count; i++) {
        k_produce_request_topic_data_partition_data_init(&p[i]);
        p[i].index = partitions[i];
        p[i].records = batch;
    }
    k_produce_request_topic_data_init(&t);
    t.name = str_from(topic);
    t.partition_data = p;
    t.partition_data_n = (int32_t)count;
    k_produce_request_init(&rq);
    rq.acks = o->acks;
    rq.timeout_ms = o->timeout_ms;
    rq.topic_data = &t;
    rq.topic_data_n = 1;
    wire_writer_init(&g->request, REQUESTS_BYTES_MAX);
    wire_put_i32(&g->request, 0);
    kafka_request_header_write(&g->request, &(struct kafka_request_header){0, VERSION, 1, STR_LIT("varve-bench")});
    k_produce_request_encode(&rq, &g->request, VERSION);
    free(p);
    if (g->request.err != OK || g->request.ref_bytes > 0) return false;
    wire_patch_i32(&g->request, 0, (int32_t)g->request.len - 4);
    return true;
}

static bool wanted(const struct options *o, const struct client_partition *p) { return o->partition < 0 || p->index == o->partition; }

/* Partitions of the same leader, `per_request` at a time, in ascending order. */
static int build_groups(struct bench *b, struct run *run, struct bytes batch) {
    const struct client_topic *t = bench_topic(b);
    int32_t *members = calloc((size_t)t->partition_count, sizeof *members);
    bool *used = calloc((size_t)t->partition_count, sizeof *used);
    uint64_t bytes = 0;
    int code = EXIT_OK;
    run->groups = calloc((size_t)t->partition_count, sizeof *run->groups);
    ASSERT(members && used && run->groups);
    for (int32_t i = 0; i < t->partition_count && code == EXIT_OK; i++) {
        if (used[i] || !wanted(b->o, &t->partitions[i])) continue;
        struct group *g = &run->groups[run->group_count++];
        uint32_t count = 0;
        g->leader = t->partitions[i].leader;
        for (int32_t k = i; k < t->partition_count && count < run->per_request; k++)
            if (!used[k] && wanted(b->o, &t->partitions[k]) && t->partitions[k].leader == g->leader) {
                members[count++] = t->partitions[k].index;
                used[k] = true;
            }
        bytes += (uint64_t)count * (uint64_t)batch.len;
        if (bytes > REQUESTS_BYTES_MAX) code = bench_failed(b, "the requests would take more than 1 GiB: use smaller batches or fewer partitions");
        else if (!build_request(g, b->o, t->name, members, count, batch)) code = bench_failed(b, "a request cannot be encoded: use smaller batches");
    }
    if (code == EXIT_OK && run->group_count == 0) code = bench_failed(b, "no such partition");
    free(members);
    free(used);
    return code;
}

/* Each connection serves one leader, and its share of that leader's groups; all of them when there are fewer than
 * connections. */
static bool deal_out(struct bench *b, struct run *run) {
    run->senders = calloc(b->conn_count, sizeof *run->senders);
    ASSERT(run->senders);
    for (uint32_t i = 0; i < b->conn_count; i++) {
        struct sender *s = &run->senders[i];
        int32_t leader = run->groups[i % run->group_count].leader;
        uint32_t of_leader = 0, conns = 0, rank = 0, seen = 0;
        for (uint32_t g = 0; g < run->group_count; g++) of_leader += run->groups[g].leader == leader;
        for (uint32_t k = 0; k < b->conn_count; k++) {
            if (run->groups[k % run->group_count].leader != leader) continue;
            if (k < i) rank++;
            conns++;
        }
        s->groups = calloc(of_leader, sizeof *s->groups);
        ASSERT(s->groups);
        for (uint32_t g = 0; g < run->group_count; g++) {
            if (run->groups[g].leader != leader) continue;
            bool mine = of_leader >= conns ? seen % conns == rank : rank % of_leader == seen;
            if (mine) s->groups[s->count++] = g;
            seen++;
        }
        b->conns[i].state = s;
        if (!bench_connect(b, &b->conns[i], leader)) return false;
    }
    return true;
}

/* ---- the run --------------------------------------------------------------------------------- */

static bool fill(struct bench *b, struct bench_conn *c) {
    struct run *run = b->run;
    struct sender *s = c->state;
    if (run->total > 0 && run->issued >= run->total) return false;
    run->issued++;
    const struct group *g = &run->groups[s->groups[s->next++ % s->count]];
    c->out = g->request.data;
    c->out_len = g->request.len;
    return true;
}

static bool refused(struct bench *b, int16_t code, int32_t partition) {
    snprintf(b->why, sizeof b->why, "partition %d was answered with error %d (%s)", partition, code, err_str(client_err_from_code(code)));
    return false;
}

/* Version 7: correlation id, topics {name, partitions {index, error, base offset, append time, log start}}, throttle time. */
static bool take(struct bench *b, struct bench_conn *c, const uint8_t *frame, size_t len) {
    enum { PARTITION_BYTES = 30 };
    struct run *run = b->run;
    uint32_t partitions = run->per_request;
    (void)c;
    if (frame) {
        size_t name = len >= 10 ? load_be16(frame + 8) : SIZE_MAX;
        if (len < 10 || len - 10 < name + 4) goto broken;
        const uint8_t *at = frame + 10 + name;
        partitions = load_be32(at);
        if (partitions > run->per_request || len != 10 + name + 4 + (size_t)partitions * PARTITION_BYTES + 4) goto broken;
        at += 4;
        for (uint32_t i = 0; i < partitions; i++, at += PARTITION_BYTES)
            if (load_be16(at + 4) != 0) return refused(b, (int16_t)load_be16(at + 4), (int32_t)load_be32(at));
    }
    b->records += (uint64_t)partitions * run->records;
    b->bytes += (uint64_t)partitions * run->bytes;
    return true;
broken:
    snprintf(b->why, sizeof b->why, "an answer does not parse");
    return false;
}

static void run_free(struct run *run, uint32_t conns) {
    for (uint32_t i = 0; i < run->group_count; i++) wire_writer_free(&run->groups[i].request);
    for (uint32_t i = 0; run->senders && i < conns; i++) free(run->senders[i].groups);
    free(run->groups);
    free(run->senders);
}

int cmd_bench_produce(const struct options *o) {
    struct bench *b = calloc(1, sizeof *b);
    struct run run = {.per_request = (uint32_t)o->per_request};
    struct bytes batch = BYTES_NULL;
    char what[256];
    ASSERT(b);
    int code = bench_open(b, o, o->arg_count > 0 ? o->args[0] : "varve-bench", true);
    if (code == EXIT_OK && !build_batch(&run, o, &batch)) code = bench_failed(b, "the batch cannot be encoded");
    if (code == EXIT_OK) code = build_groups(b, &run, batch);
    if (code == EXIT_OK && !deal_out(b, &run)) code = EXIT_CANNOT_CONNECT;
    if (code == EXIT_OK) {
        run.total = o->count > 0 ? MAX((o->count + run.records * run.per_request - 1) / (run.records * run.per_request), 1) : 0;
        b->run = &run;
        b->fill = fill;
        b->take = take;
        b->no_answers = o->acks == 0;
        code = bench_run(b);
        snprintf(what, sizeof what, "produce: %u connections x %d in flight, batches of %u bytes (%u records), acks=%s", b->conn_count,
                 o->in_flight, run.bytes, run.records, o->acks < 0 ? "all" : o->acks == 1 ? "1" : "0");
        bench_report(b, what);
    }
    run_free(&run, b->conn_count);
    free((void *)(uintptr_t)batch.p);
    bench_close(b);
    free(b);
    return code;
}
