/* broker.c - opening a broker, the stages of its stop, and the latched directory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "base/trace.h"
#include "server/reassign.h"
#include "server/reconcile.h"
#include "server/api_errors.h"
#include "server/broker_run.h"
#include "server/cluster.h"
#include "server/controller.h"
#include "server/forward.h"
#include "server/group_coordinator.h"
#include "server/leaders.h"
#include "server/memory.h"
#include "server/partition.h"
#include "server/peer.h"
#include "server/peer_hooks.h"
#include "server/quota_table.h"
#include "server/reactor.h"

/* After kill -9 the kernel closes what the dead broker's io_uring held a little later than the process ends,
 * its listening socket too: a taken port is tried again for a moment. */
#define LISTEN_RETRY_NS 10000000
#define LISTEN_WAIT_NS 1000000000
#define STOP_LOOK_NS 10000000     /* how often reactor 0 looks how far the others are */
#define HANDOVER_NS 1000000000    /* time for the next leadership to go */
#define STORING_NS 20000000000   /* time for the last checkpoint without any progress; a full disk may never let it finish */
#define FAILING_NS 300000000      /* time for error responses to leave before the process ends */
#define JOURNAL_PIECE_BYTES 16777216u
#define OPEN_FILES_DEFAULT 4096u

struct acceptor *broker_acceptor(const struct broker *b) { return &b->run->acceptor; }
bool broker_ended(const struct broker *b) { return atomic_load(&b->run->ended); }
bool broker_clean(const struct broker *b) { return atomic_load(&b->run->clean); }

static void run_look(struct timer *t) { (void)t; } /* the turn that it causes does the work */

enum err broker_init(struct broker *b, struct config *config) {
    memset(b, 0, sizeof *b);
    b->config = *config;
    memset(config, 0, sizeof *config);
    b->reactor_count = (uint32_t)b->config.reactors;
    b->reactors = calloc(b->reactor_count, sizeof *b->reactors);
    b->run = calloc(1, sizeof *b->run);
    if (b->run) b->run->reactors = calloc(b->reactor_count, sizeof *b->run->reactors);
    if (!b->reactors || !b->run || !b->run->reactors) {
        broker_close(b);
        return ERR_NOMEM;
    }
    b->run->broker = b;
    acceptor_init(&b->run->acceptor, b);
    timer_init(&b->run->timer, run_look);
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        b->reactors[i].broker = b;
        b->reactors[i].index = i;
        b->run->reactors[i].reactor = &b->reactors[i];
        timers_init(&b->reactors[i].timers);
    }
    return OK;
}

static void wake_all(struct broker *b) {
    for (uint32_t i = 0; i < b->reactor_count; i++) io_wake(b->reactors[i].io);
}

/* The store's: on whichever reactor noticed. */
static void store_failed(void *ctx, enum err err, const char *what) {
    struct broker *b = ctx;
    trace_error("broker", "the data directory %s has failed (%s: %s): nothing more is acknowledged and the broker stops. "
                "Acknowledged records are safe up to here; check the device before starting again", b->config.data_dir, what, err_str(err));
    atomic_store(&b->failed, true);
    io_wake(b->reactors[0].io);
}

static enum err folder_make(struct io *io, const char *dir, char *why, size_t why_len) {
    char path[4096];
    size_t len = strlen(dir);
    if (len >= sizeof path) return ERR_INVALID;
    for (size_t i = 1; i <= len; i++) {
        if (dir[i] != '/' && dir[i] != 0) continue;
        memcpy(path, dir, i);
        path[i] = 0;
        struct io_stat st;
        if (io_stat_path(io, path, &st) == 0) continue;
        int made = io_mkdir(io, path);
        if (made == 0 || made == -EEXIST) continue;
        snprintf(why, why_len, "cannot make the data directory %s: %s", path, strerrordesc_np(-made));
        return err_from_errno(made);
    }
    return OK;
}

/* 0: no limit. */
static uint64_t compact_rate(const struct config *config, uint32_t reactors) {
    double rate = config->log_cleaner_io_max_bytes_per_second / reactors;
    return rate >= 1e18 ? 0 : rate < 1 ? 1 : (uint64_t)rate;
}

static void store_config_fill(struct broker *b, struct log_store_config *c) {
    const struct config *config = &b->config;
    char why[128];
    *c = (struct log_store_config){
        .dir = config->data_dir,
        .node_id = config->node_id,
        .shards = b->reactor_count,
        .journal_bytes = (uint64_t)config->journal_bytes,
        .journal_piece_bytes = JOURNAL_PIECE_BYTES,
        .journal_depth = (uint32_t)config->journal_depth,
        .disk_reserve_bytes = (uint64_t)config->disk_reserve_bytes,
        .tail_bytes = (uint64_t)config->tail_bytes,
        .producers_bytes = (uint64_t)config->memory_max_bytes / 16,
        .submitted_bytes = (uint64_t)memory_submitted_bytes(config) * b->reactor_count,
        .compact_map_bytes = config->log_cleaner_enable ? (uint64_t)config->log_cleaner_dedupe_buffer_size : 0,
        .compact_bytes_per_second = compact_rate(config, b->reactor_count),
        .compact_batch_bytes = (uint64_t)config->max_decompressed_batch_bytes,
        .open_files_max = config->open_files_max > 0 ? (uint32_t)config->open_files_max : OPEN_FILES_DEFAULT,
        .has_peers = config->voter_count > 1 || config->bootstrap_count > 0,
        .fsync_never = config->relaxed,
        .failed = store_failed,
        .failed_ctx = b,
    };
    while (c->journal_piece_bytes > 1048576 && c->journal_bytes / c->journal_piece_bytes < 8) c->journal_piece_bytes /= 2;
    c->direct = io_probe_direct(b->reactors[0].io, config->data_dir, why, sizeof why) == 0;
    if (!c->direct) trace_info("broker", "no O_DIRECT in %s (%s): the journal is written through the page cache and synced", config->data_dir, why);
}

enum err broker_open(struct broker *b, struct log_recovery *rec, char *why, size_t why_len) {
    struct io *io = b->reactors[0].io;
    enum err err = folder_make(io, b->config.data_dir, why, why_len);
    if (err != OK) return err;
    struct log_store_config config;
    store_config_fill(b, &config);
    err = log_store_open(io, &config, &b->store, rec, why, why_len);
    if (err != OK) return err;
    b->cluster_id = *log_store_cluster_id(b->store);
    snprintf(why, why_len, "out of memory");
    uint64_t seed;
    io_entropy(io, &seed, sizeof seed);
    b->quotas = quota_table_new(seed);
    if (!b->quotas) return ERR_NOMEM;
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        struct reactor *r = &b->reactors[i];
        r->shard = log_store_attach(b->store, i, r->io, &r->mailbox, &r->timers);
        r->leaders = leaders_new(r);
        if (!r->leaders) return ERR_NOMEM;
        r->partitions = partition_map_new(r);
        r->groups = group_set_new(r);
        r->reconciler = reconciler_new(r);
        if (!r->partitions || !r->groups || !r->reconciler) return ERR_NOMEM;
        conn_set_on_closed(r->conns, acceptor_ticket_closed);
    }
    if (peers_open(b) != OK) return ERR_NOMEM;
    peer_hooks_open(b);
    forward_open(b);
    reassign_open(b);
    partition_mend_serve(b);
    producer_ids_open(b);
    b->reassigner = reassigner_new(b);
    if (!b->reassigner) return ERR_NOMEM;
    b->controller = controller_new(b);
    return b->controller ? cluster_open(b) : ERR_NOMEM;
}

static void listen_try(struct timer *t) {
    struct broker_run *run = CONTAINER_OF(t, struct broker_run, listen_timer);
    struct broker *b = run->broker;
    char why[512] = "";
    if (atomic_load(&b->stopping)) return; /* asked to stop before it was ready */
    acceptor_init(&run->acceptor, b);
    enum err err = acceptor_listen(&run->acceptor, why, sizeof why);
    int64_t now_ns = io_mono_ns(b->reactors[0].io);
    if (err == ERR_BUSY && now_ns < run->listen_deadline_ns) {
        timer_set(&b->reactors[0].timers, t, now_ns + LISTEN_RETRY_NS);
        return;
    }
    run->ready(run->ready_ctx, err, why);
    if (err == OK) cluster_listening(b);
}

static void metadata_ready(void *ctx, enum err err, const char *why) {
    struct broker *b = ctx;
    if (err != OK) {
        b->run->ready(b->run->ready_ctx, err, why);
        return;
    }
    reassigner_start(b->reassigner);
    timer_init(&b->run->listen_timer, listen_try);
    b->run->listen_deadline_ns = io_mono_ns(b->reactors[0].io) + LISTEN_WAIT_NS;
    listen_try(&b->run->listen_timer);
}

/* The metadata log needs the other brokers, so their listener opens first. */
static void peers_try(struct timer *t) {
    struct broker_run *run = CONTAINER_OF(t, struct broker_run, listen_timer);
    struct broker *b = run->broker;
    char why[512] = "";
    if (atomic_load(&b->stopping)) return;
    enum err err = peers_start(b, why, sizeof why);
    int64_t now_ns = io_mono_ns(b->reactors[0].io);
    if (err == ERR_BUSY && now_ns < run->listen_deadline_ns) timer_set(&b->reactors[0].timers, t, now_ns + LISTEN_RETRY_NS);
    else if (err != OK) run->ready(run->ready_ctx, err, why);
    else controller_start(b->controller, run->recovery, metadata_ready, b);
}

void broker_start(struct broker *b, const struct log_recovery *rec, void (*ready)(void *ctx, enum err err, const char *why),
                  void *ctx) {
    b->run->ready = ready;
    b->run->ready_ctx = ctx;
    atomic_store(&b->run->turning, true);
    if (atomic_load(&b->stopping)) io_wake(b->reactors[0].io); /* broker_stop() may have come too early to wake */
    b->run->recovery = rec;
    timer_init(&b->run->listen_timer, peers_try);
    b->run->listen_deadline_ns = io_mono_ns(b->reactors[0].io) + LISTEN_WAIT_NS;
    peers_try(&b->run->listen_timer);
}

void broker_stop(struct broker *b) {
    atomic_store(&b->stopping, true);
    if (atomic_load(&b->run->turning)) io_wake(b->reactors[0].io);
}

/* ---- the stages of stopping -------------------------------------------------------------- */

static struct reactor_run *run_of(struct reactor *r) { return &r->broker->run->reactors[r->index]; }

static void leave_delivered(struct mail *m) {
    struct reactor_run *run = CONTAINER_OF(m, struct reactor_run, mail);
    partition_map_leave(run->reactor->partitions);
    atomic_store(&run->to_hand_over, partition_map_to_hand_over(run->reactor->partitions));
    atomic_store(&run->stage, REACTOR_LEAVING);
}

static void drain_delivered(struct mail *m) {
    struct reactor_run *run = CONTAINER_OF(m, struct reactor_run, mail);
    group_set_stop(run->reactor->groups); /* who waits for a group is sent away */
    conn_set_drain(run->reactor->conns);
    atomic_store(&run->stage, REACTOR_DRAINING);
}

static void shut_delivered(struct mail *m) {
    struct reactor_run *run = CONTAINER_OF(m, struct reactor_run, mail);
    conn_set_shut(run->reactor->conns);
    peer_set_shut(run->reactor);
    partition_map_stop(run->reactor->partitions, KERR_NOT_LEADER_OR_FOLLOWER);
    atomic_store(&run->stage, REACTOR_SHUTTING);
}

static void post_all(struct broker *b, void (*deliver)(struct mail *m)) {
    for (uint32_t i = 0; i < b->reactor_count; i++) {
        b->run->reactors[i].mail.deliver = deliver;
        mailbox_post(&b->reactors[i].mailbox, &b->run->reactors[i].mail);
    }
}

static bool all_at(const struct broker *b, enum reactor_stage stage) {
    for (uint32_t i = 0; i < b->reactor_count; i++)
        if (atomic_load(&b->run->reactors[i].stage) < stage) return false;
    return true;
}

static void end(struct broker *b, bool clean) {
    b->run->phase = BROKER_ENDED;
    atomic_store(&b->run->clean, clean);
    atomic_store(&b->run->ended, true);
    wake_all(b);
}

static void store_stopped(void *ctx, enum err err) {
    struct broker *b = ctx;
    if (err != OK) trace_error("broker", "the data directory could not be closed cleanly: %s", err_str(err));
    if (b->run->phase != BROKER_ENDED) end(b, err == OK && !atomic_load(&b->failed));
}

/* Whether leaderships are still going to others. */
static bool still_leaving(struct broker *b, int64_t now_ns) {
    struct broker_run *run = b->run;
    uint64_t left = 0;
    if (!all_at(b, REACTOR_LEAVING)) return true; /* the mail is still on its way */
    if (all_at(b, REACTOR_LEFT)) return false;
    for (uint32_t i = 0; i < b->reactor_count; i++) left += atomic_load(&run->reactors[i].to_hand_over);
    if (left < run->progress) {
        run->progress = left;
        run->give_up_ns = now_ns + HANDOVER_NS;
    }
    if (now_ns < run->deadline_ns && now_ns < run->give_up_ns) return true;
    trace_warn("broker", "%llu partitions could not be handed over to other brokers: they have no leader until those notice",
               (unsigned long long)left);
    return false;
}

static void phase_turn(struct broker *b) {
    struct broker_run *run = b->run;
    int64_t now_ns = b->reactors[0].now_ns;
    if (atomic_load(&b->failed) && run->phase < BROKER_FAILING) {
        acceptor_stop(&run->acceptor);
        run->phase = BROKER_FAILING;
        run->deadline_ns = now_ns + FAILING_NS;
    }
    switch (run->phase) {
    case BROKER_RUNNING:
        if (!atomic_load(&b->stopping)) return;
        run->phase = BROKER_LEAVING;
        run->deadline_ns = now_ns + (int64_t)b->config.shutdown_timeout_ms * 1000000;
        run->give_up_ns = now_ns + HANDOVER_NS;
        run->progress = UINT64_MAX;
        post_all(b, leave_delivered);
        break;
    case BROKER_LEAVING:
        if (still_leaving(b, now_ns)) break;
        acceptor_stop(&run->acceptor);
        run->phase = BROKER_DRAINING;
        run->deadline_ns = now_ns + (int64_t)b->config.shutdown_timeout_ms * 1000000;
        post_all(b, drain_delivered);
        break;
    case BROKER_DRAINING:
        if (!all_at(b, REACTOR_DRAINED) && now_ns < run->deadline_ns) break;
        if (!all_at(b, REACTOR_DRAINED)) trace_warn("broker", "some requests did not finish within shutdown.timeout.ms");
        if (!all_at(b, REACTOR_DRAINING)) break; /* the mail of the first stage is still on its way */
        run->phase = BROKER_SHUTTING;
        controller_stop(b->controller);
        post_all(b, shut_delivered);
        break;
    case BROKER_SHUTTING:
        if (!all_at(b, REACTOR_SHUT) || !acceptor_stopped(&run->acceptor)) break;
        run->phase = BROKER_STORING;
        run->deadline_ns = now_ns + STORING_NS;
        run->progress = log_store_progress(b->store);
        log_store_stop(b->store, store_stopped, b);
        break;
    case BROKER_FAILING:
        if (now_ns >= run->deadline_ns) end(b, false);
        break;
    case BROKER_STORING:
        if (log_store_progress(b->store) != run->progress) {
            run->progress = log_store_progress(b->store);
            run->deadline_ns = now_ns + STORING_NS;
        }
        if (now_ns < run->deadline_ns) break;
        trace_error("broker", "the last checkpoint does not come to an end (is the disk full?): stopping without it; "
                    "the next start replays the journal");
        end(b, false);
        break;
    case BROKER_ENDED: return;
    }
    if (run->phase != BROKER_ENDED) timer_set(&b->reactors[0].timers, &run->timer, now_ns + STOP_LOOK_NS);
}

void broker_run_turn(struct reactor *r) {
    struct reactor_run *run = run_of(r);
    enum reactor_stage stage = atomic_load(&run->stage);
    if (stage == REACTOR_LEAVING) {
        atomic_store(&run->to_hand_over, partition_map_to_hand_over(r->partitions));
        if (atomic_load(&run->to_hand_over) == 0) atomic_store(&run->stage, REACTOR_LEFT);
    }
    if (stage == REACTOR_DRAINING && conn_set_count(r->conns) == 0) atomic_store(&run->stage, REACTOR_DRAINED);
    /* Requests outlive their connections: what they wait for still points to them. */
    bool idle = conn_set_count(r->conns) == 0 && conn_set_requests(r->conns) == 0 && peer_set_is_empty(r);
    if (stage == REACTOR_SHUTTING && idle) atomic_store(&run->stage, REACTOR_SHUT);
    if (r->index == 0) phase_turn(r->broker);
}

/* ---- the end ----------------------------------------------------------------------------- */

void broker_close(struct broker *b) {
    cluster_close(b);
    reassigner_free(b->reassigner);
    if (b->controller) controller_free(b->controller);
    peers_close(b);
    if (b->store) log_store_close(b->store);
    if (b->run) {
        acceptor_free(&b->run->acceptor);
        free(b->run->reactors);
    }
    free(b->run);
    free(b->quotas);
    free(b->reactors);
    config_free(&b->config);
    memset(b, 0, sizeof *b);
}
