/* world.h - the state of one simulated group; for tests/sim/quorum only. */
#ifndef SIM_QUORUM_WORLD_H
#define SIM_QUORUM_WORLD_H
#include <stdio.h>
#include "tests/sim/prng.h"
#include "tests/sim/quorum/run.h"
#include "replication/replica.h"

enum { NODES_MAX = 5, RECORDS_MAX = 400, MARKERS_MAX = 400, OPS_MAX = 200, NET_MAX = 60, EPOCHS_SEEN_MAX = 4000, READS_MAX = 16, LATE_MAX = 16 };
#define TIMEOUT_NS INT64_C(1000000000)

struct record { int32_t epoch; uint64_t value; };
/* A log with its records; in memory and on disk alike. Offsets [start, end). */
struct sim_log {
    int32_t base_epoch;
    int64_t start, end;
    struct record records[RECORDS_MAX];
    struct replica_marker markers[MARKERS_MAX];
    uint32_t marker_count;
};
enum op_kind { OP_VOTE, OP_CONFIG, OP_MARKER, OP_RECORDS, OP_TRUNCATE, OP_START, OP_RESET };
struct op {
    enum op_kind kind;
    uint64_t seq;
    int32_t epoch;
    bool has_voted;
    struct replica_member voted;
    struct replica_config config;
    struct replica_position position;
    int64_t from, to;
    uint32_t values;                     /* index of the first record in the node's `values` */
};
struct disk {
    int32_t epoch;
    bool has_voted;
    struct replica_member voted;
    struct replica_config config;
    struct sim_log log;
    struct record tail[RECORDS_MAX];     /* mutant TRUNC_NOT_DURABLE: what a truncation cut off, until the next sync */
    int64_t tail_from, tail_to;
};
/* What was attached to an append is what the log had: perhaps less than was asked for. */
struct departure { uint32_t peer; uint64_t session; struct replica_position position; };
struct node {
    bool up, rolled_back;
    struct replica_member self;
    struct replica replica;
    int64_t now_ns, skew_ns;
    struct sim_log log;                  /* in memory */
    struct disk disk, copy;              /* copy: a backup of its directory, for conversations */
    struct op ops[OPS_MAX];              /* on their way to the disk, in order */
    uint32_t op_count;
    struct record values[RECORDS_MAX * 2];
    uint32_t value_count;
    int64_t high_watermark;              /* the last that was told, in this life */
    bool leads, established;             /* as was told */
    struct { uint32_t round; int64_t committed; } reads[READS_MAX]; /* not answered; what was committed when they came */
    uint32_t read_count;
    struct departure left[LATE_MAX];     /* QUORUM_LATE: appends that have left, which it does not know yet */
    uint32_t left_count;
    int32_t voted_epoch;                 /* of the newest grant that left, in this incarnation */
    struct replica_member voted_for;
};
struct packet {
    struct replica_message message;
    uint32_t to;
    struct record records[RECORDS_MAX];
    uint32_t record_count;
};
struct world {
    struct quorum_options options;
    struct prng prng;
    struct node nodes[NODES_MAX];
    struct packet net[NET_MAX];
    uint32_t net_count;
    struct record committed[RECORDS_MAX];
    int32_t committed_in[RECORDS_MAX];   /* the epoch of the leader that did it first */
    int64_t deleted_to;                  /* what lies below was deleted by a majority */
    int64_t committed_end, published;    /* published: the highest that a client saw */
    struct replica_member leaders[EPOCHS_SEEN_MAX]; /* by epoch; node -1: none */
    uint64_t next_value, next_incarnation, hash;
    int64_t now_ns;
    uint32_t wipes, step;
    FILE *out;                           /* where the story is told; NULL: nowhere */
    bool quiet;                          /* leaders may agree with the others to be silent */
    bool soon;                           /* node 0 is the first choice to lead */
    bool young;                          /* talk: all processes have just begun */
    bool relaxed;                        /* talk: who lacks what it had acknowledged lost power */
    bool directed;                       /* by a conversation: nothing is left to chance */
    uint32_t weights[13];                /* of what may happen, by the enum in run.c */
    uint32_t loss_one_in, double_one_in;
    uint64_t drift_ns;                   /* time passes by up to this much with each step */
    const char *violation;
    struct quorum_coverage *coverage;
    struct replica_actions actions;
};

void world_violated(struct world *w, const char *what);
void world_hash(struct world *w, uint64_t v);
void world_trace(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- run.c: what may happen ---- */
void world_begin(struct world *w);
void world_start(struct world *w, struct node *n);
void world_crash(struct world *w, struct node *n);
void world_deliver(struct world *w, uint32_t packet, bool keep);
void world_sync(struct world *w, struct node *n, uint32_t ops);
void world_tick(struct world *w, struct node *n);
/* `n` hears now that the process of `of` ran so long ago. */
void world_vouch(struct world *w, struct node *n, const struct node *of, int64_t ago_ns);
void world_campaign(struct world *w, struct node *n);
enum err world_read(struct world *w, struct node *n);
enum err world_write(struct world *w, struct node *n, uint32_t records);

/* ---- perform.c ---- */
extern const char *const world_message_names[];
/* One step of a replica, into w->actions: the caller performs them. */
enum err world_ask(struct world *w, struct node *n, const struct replica_event *e);
/* What the last world_ask() was answered. */
void world_perform(struct world *w, struct node *n);
/* Both, at the time that it is now. */
void world_step(struct world *w, struct node *n, struct replica_event *e, const struct packet *in_hand);
void world_appends_leave(struct world *w, struct node *n); /* QUORUM_LATE */

/* ---- disk.c ---- */
bool sim_log_contains(const struct sim_log *l, struct replica_position p);
struct record *sim_log_at(struct sim_log *l, int64_t offset);
void disk_op(struct world *w, struct node *n, const struct replica_action *a, const struct packet *in_hand);
/* Makes `count` waiting ops durable; returns the seq of the last. */
uint64_t disk_sync(struct world *w, struct node *n, uint32_t count);
/* A crash: some prefix of what waited survives. */
void disk_crash(struct world *w, struct node *n);

/* ---- check.c ---- */
void check_all(struct world *w);
void check_sent(struct world *w, struct node *n, const struct replica_message *m);
void check_truncation(struct world *w, const struct node *n, struct replica_position p);
void check_leader(struct world *w, struct node *n);
void check_reads(struct world *w, struct node *n, uint32_t round);
void check_high_watermark(struct world *w, struct node *n, int64_t offset);
void check_went_back(struct world *w, const struct replica_member *m);
#endif
