/* cmd_bench_consume.c - varve bench consume: fetches partitions to the ends that they had at the start and
 * throws the records away; with --seconds, again and again until the time is up. */
#include <stdlib.h>
#include "base/assert.h"
#include "proto/kafka_messages.h"
#include "proto/wire.h"
#include "tools/bench.h"
#include "tools/cli.h"

enum { VERSION = 11, PARTITION_MAX = 100000, ARENA_BYTES = 16 << 20 };

struct reader { int32_t index; int64_t start, offset, end; };   /* one partition of one connection */
struct fetcher {
    struct reader *readers;
    uint32_t count;
    struct wire_writer request;
    struct k_fetch_request_topics_partitions *parts;
};

/* The partitions that are left. False: none. */
static bool encode_fetch(struct bench *b, struct bench_conn *c) {
    const struct options *o = b->o;
    struct fetcher *f = c->state;
    int32_t n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        const struct reader *r = &f->readers[i];
        if (r->offset >= r->end) continue;
        struct k_fetch_request_topics_partitions *p = &f->parts[n++];
        k_fetch_request_topics_partitions_init(p);
        p->partition = r->index;
        p->fetch_offset = r->offset;
        p->partition_max_bytes = o->fetch_bytes;
    }
    if (n == 0) return false;
    struct k_fetch_request_topics t;
    struct k_fetch_request rq;
    k_fetch_request_topics_init(&t);
    t.topic = str_from(bench_topic(b)->name);
    t.partitions = f->parts;
    t.partitions_n = n;
    k_fetch_request_init(&rq);
    rq.replica_id = -1;
    rq.max_wait_ms = 500;
    rq.min_bytes = 1;
    rq.max_bytes = MAX(o->fetch_bytes, INT32_C(50) << 20);
    rq.session_epoch = -1;
    rq.rack_id = STR_LIT("");
    rq.topics = &t;
    rq.topics_n = 1;
    wire_writer_free(&f->request);
    wire_writer_init(&f->request, 64 << 20);
    wire_put_i32(&f->request, 0);
    kafka_request_header_write(&f->request, &(struct kafka_request_header){1, VERSION, 1, STR_LIT("varve-bench")});
    k_fetch_request_encode(&rq, &f->request, VERSION);
    ASSERT(f->request.err == OK);
    wire_patch_i32(&f->request, 0, (int32_t)f->request.len - 4);
    c->out = f->request.data;
    c->out_len = f->request.len;
    return true;
}

static bool fill(struct bench *b, struct bench_conn *c) {
    struct fetcher *f = c->state;
    if (encode_fetch(b, c)) return true;
    if (b->o->seconds == 0) return false;
    for (uint32_t i = 0; i < f->count; i++) f->readers[i].offset = f->readers[i].start;
    return encode_fetch(b, c);
}

static struct reader *reader_find(struct fetcher *f, int32_t index) {
    for (uint32_t i = 0; i < f->count; i++)
        if (f->readers[i].index == index) return &f->readers[i];
    return NULL;
}

/* Headers only: how many records, and where to go on. */
static bool take_partition(struct bench *b, struct fetcher *f, const struct k_fetch_response_responses_partitions *p) {
    struct reader *r = reader_find(f, p->partition_index);
    if (!r || p->error_code != 0) {
        snprintf(b->why, sizeof b->why, "partition %d was answered with error %d (%s)", p->partition_index, p->error_code,
                 err_str(client_err_from_code(p->error_code)));
        return false;
    }
    const uint8_t *at = p->records.p;
    for (int32_t left = p->records.len; left > 0;) {
        struct batch_header h;
        if (batch_parse(at, (size_t)left, &h) != OK) break; /* the last one may be cut off */
        r->offset = batch_last_offset(&h) + 1;
        b->records += (uint64_t)h.record_count;
        at += h.total_bytes;
        left -= (int32_t)h.total_bytes;
    }
    b->bytes += p->records.len > 0 ? (uint64_t)p->records.len : 0;
    return true;
}

static bool take(struct bench *b, struct bench_conn *c, const uint8_t *frame, size_t len) {
    struct arena arena;
    arena_init(&arena, ARENA_BYTES);
    struct wire_reader r = wire_reader_init(frame, len, &arena);
    struct k_fetch_response rs;
    int32_t id;
    k_fetch_response_init(&rs);
    bool good = kafka_response_header_read(&r, 1, VERSION, &id) == OK && k_fetch_response_decode(&rs, &r, VERSION) == OK;
    if (!good || rs.error_code != 0) {
        snprintf(b->why, sizeof b->why, good ? "the fetch was answered with error %d" : "an answer does not parse", rs.error_code);
        good = false;
    }
    for (int32_t t = 0; good && t < rs.responses_n; t++)
        for (int32_t i = 0; good && i < rs.responses[t].partitions_n; i++) good = take_partition(b, c->state, &rs.responses[t].partitions[i]);
    arena_free(&arena);
    return good;
}

/* Connection i reads the partitions i, i + C, ... of those with its leader; with fewer partitions than connections several
 * read the same. */
static int assign(struct bench *b, uint32_t index) {
    const struct client_topic *t = bench_topic(b);
    struct bench_conn *c = &b->conns[index];
    struct fetcher *f = c->state;
    int32_t leader = t->partitions[index % (uint32_t)t->partition_count].leader;
    for (int32_t i = 0; i < t->partition_count; i++) {
        const struct client_partition *p = &t->partitions[i];
        struct client_offset first, last;
        bool mine = (uint32_t)t->partition_count > b->conn_count ? (uint32_t)i % b->conn_count == index : (uint32_t)i == index % (uint32_t)t->partition_count;
        if (b->o->partition >= 0) mine = p->index == b->o->partition;
        if (!mine) continue;
        if (f->count == 0) leader = p->leader;
        if (p->leader != leader) continue;
        enum err err = client_list_offset(b->client, t->name, p->index, OFFSET_EARLIEST, b->o->timeout_ms, &first);
        if (err == OK) err = client_list_offset(b->client, t->name, p->index, OFFSET_LATEST, b->o->timeout_ms, &last);
        if (err != OK) return cli_failed(b->o, b->client, err, t->name);
        int64_t start = b->o->count > 0 ? MAX(first.offset, last.offset - b->o->count) : first.offset;
        f->readers[f->count++] = (struct reader){p->index, start, start, last.offset};
    }
    if (f->count == 0) return bench_failed(b, "no such partition");
    return bench_connect(b, c, leader) ? EXIT_OK : EXIT_CANNOT_CONNECT;
}

static int assign_all(struct bench *b, struct fetcher *fetchers) {
    int32_t partitions = bench_topic(b)->partition_count;
    int code = partitions <= PARTITION_MAX ? EXIT_OK : bench_failed(b, "too many partitions");
    for (uint32_t i = 0; i < b->conn_count && code == EXIT_OK; i++) {
        fetchers[i].readers = calloc((size_t)partitions, sizeof *fetchers[i].readers);
        fetchers[i].parts = calloc((size_t)partitions, sizeof *fetchers[i].parts);
        ASSERT(fetchers[i].readers && fetchers[i].parts);
        b->conns[i].state = &fetchers[i];
        code = assign(b, i);
    }
    return code;
}

int cmd_bench_consume(const struct options *o) {
    struct bench *b = calloc(1, sizeof *b);
    struct fetcher *fetchers = calloc((size_t)o->connections, sizeof *fetchers);
    char what[256];
    ASSERT(b && fetchers);
    int code = bench_open(b, o, o->arg_count > 0 ? o->args[0] : "varve-bench", false);
    if (code == EXIT_OK) code = assign_all(b, fetchers);
    if (code == EXIT_OK) {
        b->fill = fill;
        b->take = take;
        code = bench_run(b);
        snprintf(what, sizeof what, "consume: %u connections, at most %d bytes a partition and request", b->conn_count, o->fetch_bytes);
        bench_report(b, what);
    }
    for (int32_t i = 0; i < o->connections; i++) {
        wire_writer_free(&fetchers[i].request);
        free(fetchers[i].readers);
        free(fetchers[i].parts);
    }
    free(fetchers);
    bench_close(b);
    free(b);
    return code;
}
