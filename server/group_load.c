/* group_load.c - a coordinator's state from its partition, in slices, while clients hear COORDINATOR_LOAD_IN_PROGRESS.
 *
 * Record types that are not ours are passed over, as Kafka does. A record of a known type that does not parse was never state of
 * any coordinator (what we write, we can read): it is reported and passed over. Not so with records of consumer groups, which may say
 * who owns a partition, and where the log itself cannot be read, for what is missing may be the newest offsets: the partition's
 * groups are refused; in the second case until the log is mended, with another replica's batches or by an operator. */
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/cluster.h"
#include "server/group_coordinator_impl.h"

enum { READ_BYTES = 1 << 20, RECORDS_PER_LOOK = 32, REPORTS_MAX = 10 };

static void failed(struct coordinator *c, const char *why) {
    c->state = COORDINATOR_FAILED;
    trace_error("groups", "%s-%d: loading stopped at offset %lld: %s. The groups of this partition are refused "
                "(COORDINATOR_NOT_AVAILABLE), for their committed offsets could be too old; `varve dump` shows the damage",
                GROUP_TOPIC, c->partition, (long long)c->load.next_offset, why);
}

static void loaded(struct coordinator *c) {
    struct group_load *l = &c->load;
    struct reactor *r = c->set->reactor;
    c->state = COORDINATOR_ACTIVE;
    c->loaded_ns = io_mono_ns(r->io);
    (void)cluster_knows_since(r, c->loaded_ns); /* it is asked for, so that it is known when a topic goes: group_expiry.c */
    coordinator_activated(c);
    if (l->unknown > 0)
        trace_info("groups", "%s-%d: %llu records of types that are not known here were passed over", GROUP_TOPIC, c->partition,
                   (unsigned long long)l->unknown);
    if (l->malformed > 0)
        trace_error("groups", "%s-%d: %llu records do not parse and were passed over", GROUP_TOPIC, c->partition,
                    (unsigned long long)l->malformed);
    if (l->records > 0)
        trace_info("groups", "%s-%d: %llu records loaded in %lld ms: %u groups", GROUP_TOPIC, c->partition, (unsigned long long)l->records,
                   (long long)((io_mono_ns(r->io) - l->begun_ns) / 1000000), HASH_COUNT(c->groups));
}

void group_load_end(struct coordinator *c) {
    struct group_load *l = &c->load;
    if (l->in_batch) record_iter_free(&l->iter);
    l->in_batch = false;
    if (!l->reading) log_read_release(&l->read);
    l->read.slice_count = 0;
}

static void read_done(struct log_read *r) {
    struct coordinator *c = r->owner;
    c->load.reading = false;
    if (c->state == COORDINATOR_GONE) coordinator_free_if_gone(c);
    else coordinator_work(c);
}

/* False: the load is over. */
static bool read_more(struct coordinator *c) {
    struct group_load *l = &c->load;
    int64_t end;
    struct log *log = partition_log(c->set->reactor, c->plid, &end);
    if (!log) {
        failed(c, "the partition is not here");
        return false;
    }
    if (l->next_offset < log->start) l->next_offset = log->start;
    if (l->next_offset >= end) {
        loaded(c);
        return false;
    }
    l->slice = l->position = 0;
    l->read = (struct log_read){.offset = l->next_offset, .max_offset = end, .max_bytes = READ_BYTES, .min_one = true,
                                .done = read_done, .owner = c};
    l->reading = !log_read(log, &l->read);
    return true;
}

/* The read that came back: true when there is a batch to go on with. */
static bool read_ok(struct coordinator *c) {
    struct group_load *l = &c->load;
    if (l->read.err == OK && l->read.bytes > 0) return true;
    if (l->read.err == OK) { /* compaction has taken what was there */
        l->next_offset = l->read.max_offset;
        return false;
    }
    if (l->read.err != ERR_RANGE || l->range_errors++ > 3) failed(c, err_str(l->read.err));
    if (l->read.err == ERR_CORRUPT) coordinator_load_again(c);
    return false;
}

static void replay(struct coordinator *c, const struct record *r) {
    struct group_load *l = &c->load;
    if (r->offset < l->next_offset) return;
    l->records++;
    enum err err = coordinator_replay(c, r->key, r->value);
    if (err == ERR_UNSUPPORTED) {
        l->unknown++;
    } else if (err == ERR_NOMEM || err == ERR_INVALID) {
        failed(c, err_str(err));
    } else if (err) {
        if (l->malformed++ < REPORTS_MAX)
            trace_error("groups", "%s-%d: the record at offset %lld does not parse (%s)", GROUP_TOPIC, c->partition, (long long)r->offset,
                        err_str(err));
    }
}

/* The next batch of the read, or false: there is none. */
static bool batch_open(struct coordinator *c) {
    struct group_load *l = &c->load;
    struct batch_header h;
    while (l->slice < l->read.slice_count && l->position >= l->read.slices[l->slice].len) {
        l->slice++;
        l->position = 0;
    }
    if (l->slice >= l->read.slice_count) return false;
    const struct slice *s = &l->read.slices[l->slice];
    const uint8_t *at = slice_data(s) + l->position;
    enum err err = batch_parse(at, s->len - l->position, &h);
    if (!err) err = batch_check(&h);
    if (!err && !(h.attributes & BATCH_CONTROL)) {
        err = record_iter_init(&l->iter, at, &h, (size_t)c->set->reactor->broker->config.max_decompressed_batch_bytes);
        l->in_batch = err == OK;
    }
    l->position += h.total_bytes;
    if (err) failed(c, err_str(err));
    return err == OK;
}

static void batch_go_on(struct coordinator *c) {
    struct group_load *l = &c->load;
    for (int i = 0; i < RECORDS_PER_LOOK && c->state == COORDINATOR_LOADING; i++) {
        struct record r;
        enum err err = record_iter_next(&l->iter, &r);
        if (err == OK) {
            replay(c, &r);
            continue;
        }
        record_iter_free(&l->iter);
        l->in_batch = false;
        if (err != ERR_NOT_FOUND) failed(c, err_str(err));
        return;
    }
}

bool group_load_step(struct coordinator *c, int64_t deadline_ns) {
    struct group_load *l = &c->load;
    while (c->state == COORDINATOR_LOADING && !l->reading) {
        if (io_mono_ns(c->set->reactor->io) >= deadline_ns) return true;
        if (l->in_batch) {
            batch_go_on(c);
            continue;
        }
        if (l->read.owner && !read_ok(c)) {
            if (c->state == COORDINATOR_FAILED) break;
        } else if (l->read.owner && batch_open(c)) {
            continue;
        } else if (l->read.owner) {
            l->next_offset = l->read.next_offset;
        }
        log_read_release(&l->read);
        l->read = (struct log_read){0};
        if (c->state == COORDINATOR_LOADING) read_more(c);
    }
    if (c->state != COORDINATOR_LOADING && !l->reading) group_load_end(c);
    return false;
}

void group_load_begin(struct coordinator *c) {
    c->state = COORDINATOR_LOADING;
    c->load.begun_ns = io_mono_ns(c->set->reactor->io);
    int64_t end;
    const struct log *log = partition_log(c->set->reactor, c->plid, &end);
    if (log && log->end == log->start) c->state = COORDINATOR_ACTIVE; /* new: clients need not wait for a turn */
    else coordinator_work(c);
}
