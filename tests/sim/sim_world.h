/* sim_world.h - what the parts of the simulator share. Users include io_sim.h. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H
#include <stdatomic.h>
#include "base/recv_pool.h"
#include "tests/sim/io_sim.h"
#include "tests/sim/prng.h"
#include "tests/sim/sim_disk.h"

#define START_NS 1000000000
#define START_WALL_MS INT64_C(1700000000000)

struct sim_socket;

struct fault { struct list link; struct sim_fault spec; }; /* in sim_node.faults */

struct sim_event {
    int64_t time_ns;
    uint64_t seq; /* ties: first scheduled, first fired */
    void (*fire)(struct sim_world *w, struct sim_event *e);
    struct io_op *op;          /* NULL once the op was forgotten */
    struct sim_io *s;          /* of `op` */
    struct sim_socket *socket; /* network events: where it arrives */
    size_t len;
    uint8_t bytes[];
};

/* What a file descriptor of a node stands for: a file or a socket. */
struct sim_handle {
    struct sim_inode *inode;
    struct sim_socket *socket;
    int flags; /* enum io_open_flags */
    bool holds_lock;
    uint32_t busy; /* ops in flight */
    char *path;
};

struct sim_node {
    struct sim_disk disk;
    struct sim_handle *handles; /* by fd - FIRST_FD; never reused */
    size_t handle_count, handle_cap;
    struct list faults;
    uint32_t life; /* an io of an earlier one is dead */
    bool down;
    uint64_t disk_ops, crash_at;
    int64_t wall_jump_ms;
    sim_watch_fn *watch;
    void *watch_ctx;
};

struct sim_link { bool cut; int64_t delay_ns; };

struct sim_world {
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX]; /* [from][to] */
    struct prng disk_prng, net_prng, crash_prng, entropy_prng;
    struct sim_tuning tuning;
    struct sim_fatal fatal;
    int64_t now_ns;
    uint64_t next_seq, hash;
    struct sim_event **heap;
    size_t event_count, event_cap;
    struct list sockets, listeners;
    uint16_t next_port;
    struct sim_node nodes[SIM_NODES_MAX];
};

struct sim_io {
    struct io io;
    struct sim_world *world;
    unsigned node_id;
    uint32_t life;
    struct list ready, starved; /* of io_op.link */
    struct recv_pool pool;
    atomic_bool woken;
};

/* What an op keeps in io_op.impl. */
enum sim_stage { STAGE_EVENT, STAGE_SOCKET, STAGE_STARVED, STAGE_READY };
struct sim_progress {
    struct sim_io *s;
    enum sim_stage stage;
    bool counted; /* in sim_handle.busy */
    uint64_t bytes;
};
static inline struct sim_progress *progress_of(struct io_op *op) { return (struct sim_progress *)op->impl; }

void sim_note(struct sim_world *w, uint64_t what, uint64_t a, uint64_t b, uint64_t c);
struct sim_event *sim_schedule(struct sim_world *w, int64_t time_ns, size_t len,
                               void (*fire)(struct sim_world *w, struct sim_event *e));
bool sim_fire_due(struct sim_world *w); /* everything that is due; whether there was something */
int64_t sim_net_delay(struct sim_world *w);
void sim_finish(struct io_op *op, int64_t result); /* to the ready list of its io */
struct sim_handle *sim_handle(struct sim_node *n, int fd);
int sim_handle_new(struct sim_node *n, struct sim_handle handle);
/* The crash instant: ops in flight become un-synced changes or nothing, sockets break. */
void sim_node_down(struct sim_world *w, unsigned node);

/* sim_net.c */
int net_listen(struct sim_world *w, unsigned node, struct sockaddr_storage *addr);
int net_socket(struct sim_world *w, unsigned node);
int net_shutdown(struct sim_world *w, struct sim_socket *socket);
int net_sockname(const struct sim_socket *socket, struct sockaddr_storage *addr);
void net_close(struct sim_world *w, struct sim_socket *socket);
void net_submit(struct sim_io *s, struct io_op *op, struct sim_socket *socket);
void net_retry_starved(struct sim_io *s);
void net_node_down(struct sim_world *w, unsigned node);
void net_free(struct sim_world *w);
#endif
