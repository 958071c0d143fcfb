/* cluster.h - the state of one simulated cluster; for tests/sim/cluster only. */
#ifndef SIM_CLUSTER_CLUSTER_H
#define SIM_CLUSTER_CLUSTER_H
#include <stdio.h>
#include "base/timers.h"
#include "proto/kafka_messages.h"
#include "replication/replica.h"
#include "server/broker.h"
#include "tests/sim/cluster/run.h"
#include "tests/sim/io_sim.h"
#include "tests/sim/prng.h"

enum { BROKERS_MAX = 6, REACTORS_MAX = 2, CLIENT_NODE = 8, CLIENT_NODES = 6, KAFKA_PORT = 9100, PEER_PORT = 9200 };
#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

struct cluster;
struct check;
struct check_members;
struct check_walk;
struct image;
struct partition;
struct history;
struct client;

/* One broker, by its node id (1..nodes), which is its number in the world too. */
struct node {
    struct cluster *c;
    int32_t id;
    struct broker broker;
    struct io *ios[REACTORS_MAX];
    struct log_recovery recovery;
    uint32_t late;                       /* messages on their way: messages.c */
    struct uuid first_incarnation;       /* zero: not known yet; mutants.c */
    bool up, ready, stopping, refused;   /* refused: it has said why it cannot start */
    uint32_t lost_disks;                 /* it has had so many others */
    bool moment;                         /* one in which dying, or being alone, matters more than in others: rules.c */
    bool rotten;                         /* its disk may refuse, or say that something is damaged */
    uint32_t life;
    int64_t paused_until, return_ns;     /* return_ns: down until then */
    int64_t full_until;
    uint64_t image_edition, image_groups_end; /* of the image that was compared last, in image_life */
    uint32_t image_life;
    enum sim_crash_policy policy;        /* of the crash that may strike at any operation */
};

struct cluster {
    struct cluster_options options;
    struct cluster_result *result;
    struct sim_world *world;
    struct prng prng, work_prng;         /* of what befalls the cluster; of what clients do */
    struct timers timers;                /* of clients and faults */
    struct node nodes[BROKERS_MAX + 1];  /* by id */
    uint32_t node_count, reactors;
    uint32_t founders;                   /* of the nodes: controller.quorum.voters has them; the others join */
    uint32_t snapshot_bytes;             /* of metadata between two snapshots */
    uint32_t faults;                     /* bits that this seed has chosen */
    int64_t fault_gap_ns;
    struct timer fault_timer;
    int64_t unruly_until;                /* until then messages between brokers are lost, doubled or late: */
    uint64_t unruly_one_in;
    int64_t hand_overs_lost_until;       /* messages that say that a leader hands over */
    int32_t victim;                      /* whose disk may rot or be lost; 0: not chosen yet */
    bool healed;                         /* faults are over */
    bool finishing;                      /* clients send nothing new */
    int64_t quiet_ns;                    /* since then nothing is written any more; 0: not yet */
    struct io *client_ios[CLIENT_NODES];
    struct check *check;
    struct check_images *images;
    struct check_members *members;
    struct check_walk *walks;
    struct history *history;
    struct list clients;                 /* client.link */
    uint32_t step;
    int trace_fd;                        /* what brokers write to their diagnostics */
};

extern struct cluster *cluster_now;      /* one in a process: for what is called in the place of the brokers' functions */
static inline struct cluster_coverage *covered(struct cluster *c) { return &c->result->coverage; }
static inline uint64_t below(struct cluster *c, uint64_t n) { return prng_below(&c->prng, n); }
static inline bool chance(struct cluster *c, uint64_t one_in) { return prng_below(&c->prng, one_in) == 0; }
/* The first is kept. */
void cluster_violated(struct cluster *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool cluster_failed(const struct cluster *c) { return c->result->violation[0] != 0; }
void cluster_trace(struct cluster *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cluster_pass(struct cluster *c);    /* one step */

/* ---- node.c ---- */
void node_start(struct node *n);
void node_turn(struct node *n);
int64_t node_wanted_ns(const struct node *n); /* when it wants a turn */
/* The process dies; what was not synced fares as `policy` says. Comes back by itself. */
void node_crash(struct node *n, enum sim_crash_policy policy);
void node_stop(struct node *n);          /* asks for a clean stop */

/* ---- faults.c ---- */
void faults_choose(struct cluster *c);
void faults_start(struct cluster *c);
void faults_end(struct cluster *c);
void faults_fire_due(struct cluster *c); /* pauses, returns */
void faults_at_start(struct node *n);    /* what may befall a broker that is about to open its directory */
/* Dies, and gets an empty disk. False: that would be more than may be lost. */
bool faults_lose_disk(struct node *n);

/* ---- check.c: what the inside of the brokers shows ---- */
struct check_images *check_images_new(void);
void check_image(struct node *n);        /* what it knows of the metadata, against what others knew at the same offset */
struct check *check_new(struct cluster *c);
void check_node(struct node *n);         /* after its turn, also when it has died in it */
void check_disk_lost(struct node *n);
struct log_vote;
/* Whether the log of `p` has promised what `vote` says (without has_voted: only its epoch), or more, and that is durable. */
bool check_vote_is_durable(struct node *n, const struct partition *p, const struct log_vote *vote);
/* A client was told that the log starts at `to`, or behind it. */
void check_start_promised(struct cluster *c, uint64_t group, int64_t to);
bool check_may_lose_disk(struct cluster *c);
struct partition *check_replica(struct node *n, uint64_t group); /* NULL: it has none */
void check_tell(struct cluster *c);      /* traces every replica as it is now */
/* NULL: all replicas agree; else what is missing. */
const char *check_converged(struct cluster *c);
/* ---- check_rest.c ---- */
/* NULL: brokers have what metadata wants, and know who leads what. Called when replicas agree. */
const char *check_rest(struct cluster *c);

/* ---- check_walk.c: what a step of a core may do ---- */
enum { WALK_STEP_MARKERS = 64 };
struct walk_before {                     /* a replica, before the step */
    enum replica_role role;
    struct replica_position last;
    int64_t high_watermark;
    struct replica_config_id config;
    uint32_t granted;
    bool established;
    int64_t voters_start;                /* the highest log start of those who voted for it */
    struct replica_marker markers[WALK_STEP_MARKERS]; /* its newest ones */
    uint32_t count;
};
struct check_walk *check_walk_new(void);
void check_walk_note(const struct replica *r, struct walk_before *was);
/* `m`: the message that it was shown, or NULL. */
void check_walk_step(struct node *n, const struct partition *p, const struct walk_before *was, const struct replica_message *m, const struct replica_actions *a);

/* ---- check_members.c: who may decide ---- */
struct check_members *check_members_new(void);
void check_config(struct node *n, const struct partition *p);      /* after its turn */
void check_members_disk_lost(struct node *n);
/* It says something that counts: a vote, an acknowledgement. */
void check_may_speak(struct node *n, const struct partition *p, const struct replica_message *m);
/* It took `m`; `before`: its peers as they were. */
void check_counted(struct node *n, const struct partition *p, const struct replica_message *m, const struct replica_peer *before, uint32_t count);
const char *check_members_converged(struct cluster *c);            /* NULL: those vote that metadata wants */

/* ---- messages.c: what replicas say to each other; watch.c: what is asked of disks ---- */
struct node *node_of(const struct reactor *r);
void messages_follow(struct node *n);    /* when its partitions are there: all that it sends */
void watch_disk(struct node *n);         /* all that it writes, this life */
/* A group of the journal is on the disk, and one before it is not: a power cut now leaves a hole. */
bool watch_out_of_order(const struct node *n);

/* ---- history.c: what clients saw ---- */
enum { TOPICS = 2, PARTITIONS_MAX = 3, PRODUCERS_MAX = 16 };
enum sent_state { SENT_UNKNOWN, SENT_ACKED, SENT_REFUSED };
struct history *history_new(struct cluster *c);
/* The next record of `producer`: its value (malloc'ed is not needed: 32 bytes). Returns its number. */
enum { VALUE_BYTES = 32 };
uint32_t history_sent(struct history *h, uint32_t producer, uint32_t topic, uint32_t partition, bool idempotent, uint8_t value[VALUE_BYTES]);
/* Acknowledged at `offset` (-1: not known); `sure`: by as many as make it last. */
void history_acked(struct history *h, uint32_t producer, uint32_t number, int64_t offset, bool sure);
void history_read(struct history *h, uint32_t topic, uint32_t partition, int64_t offset, const uint8_t *value, size_t len);
/* Everything up to `end` was there to be read. */
void history_complete(struct history *h, uint32_t topic, uint32_t partition, int64_t end);
/* Where the partition ended at least for somebody, `end` included. */
int64_t history_known(struct history *h, uint32_t topic, uint32_t partition, int64_t end);
/* Somebody asks for everything below `to` to be deleted. */
void history_deleting(struct history *h, uint32_t topic, uint32_t partition, int64_t to);
bool history_may_be_deleted(const struct history *h, uint32_t topic, uint32_t partition, int64_t offset);
/* As far as anybody has asked; 0: nobody has. */
int64_t history_deleting_to(const struct history *h, uint32_t topic, uint32_t partition);
void history_check_end(struct history *h);

/* ---- wire.c: requests and answers over the simulated network ---- */
struct call;
/* `r` NULL: the answer is lost, or never came. The call is freed afterwards. */
typedef void call_done_fn(struct call *call, struct wire_reader *r);
struct call {
    struct list link;
    int16_t key, version;
    int32_t correlation;
    call_done_fn *done;
    void *owner;
    uint64_t tag;                        /* the owner's */
    int32_t node;                        /* that was asked */
    struct timer timer;
    struct conn_to *conn;
};
struct conn_to;
struct topic_place { int32_t leader, leader_epoch; };
/* What a client program knows and its connections, one to each broker. */
struct client {
    struct list link;                    /* cluster.clients */
    struct cluster *c;
    const char *name;
    unsigned at;                         /* its node in the world */
    struct io *io;
    struct conn_to *conns[BROKERS_MAX + 1];
    int32_t controller;
    struct topic_place places[TOPICS][PARTITIONS_MAX];
    struct uuid topic_ids[TOPICS];       /* zero: not known */
    bool asking;                         /* for metadata */
};
void client_init(struct client *cl, struct cluster *c, const char *name);
/* Writes header and frame around the body that the caller encodes in between. */
struct wire_writer *call_begin(struct client *cl, int16_t key, int16_t version);
/* To broker `node`, 0: some. */
void call_send(struct client *cl, int32_t node, call_done_fn *done, void *owner, uint64_t tag, int64_t timeout_ns);
uint32_t conn_calls(const struct client *cl, int32_t node);
void conn_break(struct client *cl, int32_t node); /* gives the connection up */
/* Asks some broker who leads what. */
void client_refresh(struct client *cl);
const char *topic_name(uint32_t topic);
uint32_t topic_partitions(const struct cluster *c, uint32_t topic);
/* Asks any broker for the coordinator of `group`; what the answer says: its node, -1: nothing that helps. */
void client_find_coordinator(struct client *cl, struct str group, call_done_fn *done, void *owner);
int32_t client_coordinator(const struct call *call, struct wire_reader *r);
bool client_busy(const struct client *cl);

/* ---- requests.c: requests about one partition, begun and encoded; who asks sends them with call_send() ---- */
/* `x` says of what, from where and how much; of all together at most `bytes`. */
void request_fetch(struct client *cl, const char *topic, struct k_fetch_request_topics_partitions *x, int32_t wait_ms, int32_t bytes);
void request_offset(struct client *cl, const char *topic, uint32_t partition, int32_t leader_epoch, int64_t timestamp);
/* `q`: group and member; its topics mean nothing afterwards. */
void request_commit(struct client *cl, struct k_offset_commit_request *q, int16_t version, const char *topic, int32_t partition, int64_t offset);
/* How far the group `g` has come, whose topics mean nothing afterwards, and what the answer says: false: there is none. */
void request_committed(struct client *cl, struct k_offset_fetch_request_groups *g, int16_t version, const char *topic, int32_t partition);
#define OFFSET_UNTOLD INT64_MIN
bool committed_told(const struct call *call, struct wire_reader *r, int16_t *error, int64_t *offset);

/* ---- producer.c, reader.c, latest.c, group.c, members.c, consumers.c, admin.c, voters.c, deleter.c: programs ---- */
void producers_start(struct cluster *c);
void readers_start(struct cluster *c);
void askers_start(struct cluster *c);
void groups_start(struct cluster *c);
void members_start(struct cluster *c);
void consumers_start(struct cluster *c);
void admin_start(struct cluster *c);
void voters_start(struct cluster *c);
void deleter_start(struct cluster *c);
/* Whether what was answered is what the metadata says now. */
void voters_check_end(const struct image *im);
void admin_look(const struct node *n);    /* after its turn: which topics its metadata shows */
void admin_reassign(struct cluster *c);  /* asks for other replicas of some partition */
/* NULL: nothing is left to do. */
const char *producers_waiting(struct cluster *c);
const char *readers_waiting(struct cluster *c);
const char *groups_waiting(struct cluster *c);
const char *members_waiting(struct cluster *c);
const char *consumers_waiting(struct cluster *c);
const char *admin_waiting(struct cluster *c);
const char *voters_waiting(struct cluster *c);
#endif
