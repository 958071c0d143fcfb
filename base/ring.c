#include "base/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/assert.h"
#include "base/io.h"

/* Set-up flags from the best to the plainest. A kernel refuses with EINVAL what it does not know:
 * SINGLE_ISSUER came with 6.0, DEFER_TASKRUN with 6.1, COOP_TASKRUN with 5.19. */
#define FLAGS_ALWAYS (IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)
static const unsigned flag_choices[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    0,
};

/* liburing 2.3 declares io_uring_enable_rings() and io_uring_register_restrictions() but does not
 * export them, hence the plain io_uring_register() below. */

/* All that io_uring.c ever asks for. A seccomp filter cannot see what goes through a ring, so the
 * ring itself is told to refuse the rest. */
static const uint8_t allowed_ops[] = {
    IORING_OP_READ, IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_UNLINKAT,
    IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_SENDMSG,
    IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
};
static const uint8_t allowed_registers[] = {
    IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS, IORING_REGISTER_IOWQ_MAX_WORKERS,
};
#define ALLOWED_ENTRY_FLAGS (IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS)

static int open_with_best_flags(struct ring *r, uint32_t entries) {
    int result = -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(flag_choices) && result == -EINVAL; i++) {
        struct io_uring_params params = {.flags = FLAGS_ALWAYS | flag_choices[i], .cq_entries = entries * 4};
        result = io_uring_queue_init_params(entries, &r->uring, &params);
        if (result < 0) continue;
        r->deferred = params.flags & IORING_SETUP_DEFER_TASKRUN;
        r->flags_work = params.flags & IORING_SETUP_TASKRUN_FLAG;
    }
    return result;
}

static int check_ops(struct ring *r) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(&r->uring);
    if (!probe) return -EOPNOTSUPP;
    int result = 0;
    for (size_t i = 0; i < ARRAY_LEN(allowed_ops); i++)
        if (!io_uring_opcode_supported(probe, allowed_ops[i])) result = -EOPNOTSUPP;
    io_uring_free_probe(probe);
    return result;
}

static int restrict_ring(struct ring *r) {
    struct io_uring_restriction rules[ARRAY_LEN(allowed_ops) + ARRAY_LEN(allowed_registers) + 1];
    memset(rules, 0, sizeof rules);
    unsigned count = 0;
    for (size_t i = 0; i < ARRAY_LEN(allowed_ops); i++) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count++].sqe_op = allowed_ops[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(allowed_registers); i++) {
        rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[count++].register_op = allowed_registers[i];
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = ALLOWED_ENTRY_FLAGS;
    return io_uring_register((unsigned)r->uring.ring_fd, IORING_REGISTER_RESTRICTIONS, rules, count);
}

static int register_buffers(struct ring *r, uint32_t count) {
    r->buffer_slots = 1;
    while (r->buffer_slots < count) r->buffer_slots *= 2;
    if (r->buffer_slots > 32768) return -EINVAL;
    size_t bytes = ALIGN_UP(r->buffer_slots * sizeof(struct io_uring_buf), (size_t)IO_BLOCK_BYTES);
    void *slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (slots == MAP_FAILED) return -errno;
    r->buffers = slots;
    io_uring_buf_ring_init(r->buffers);
    struct io_uring_buf_reg reg = {
        .ring_addr = (uint64_t)(uintptr_t)slots, .ring_entries = r->buffer_slots, .bgid = RING_BUFFER_GROUP};
    return io_uring_register_buf_ring(&r->uring, &reg, 0);
}

static const char *refusal(int result) {
    switch (-result) {
    case EPERM:
    case EACCES: return "forbidden here (kernel.io_uring_disabled or a seccomp filter)";
    case ENOSYS: return "the kernel has none, or a seccomp filter hides it";
    case ENOMEM: return "the limit of locked memory is too low (RLIMIT_MEMLOCK)";
    case EINVAL:
    case EOPNOTSUPP: return "the kernel is too old, 5.19 is needed";
    default: return strerror(-result);
    }
}

int ring_open(struct ring *r, uint32_t entries, uint32_t buffer_count, char *why, size_t why_len) {
    *r = (struct ring){0};
    int result = open_with_best_flags(r, entries);
    if (result < 0) {
        snprintf(why, why_len, "io_uring: %s", refusal(result));
        return result;
    }
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_CQE_SKIP;
    result = (r->uring.features & needed) == needed ? check_ops(r) : -EOPNOTSUPP;
    if (result == 0) result = register_buffers(r, buffer_count);
    if (result == 0) result = restrict_ring(r);
    if (result == 0) return 0;
    snprintf(why, why_len, "io_uring: %s", refusal(result));
    ring_close(r);
    return result;
}

void ring_close(struct ring *r) {
    io_uring_queue_exit(&r->uring);
    if (r->buffers) munmap(r->buffers, ALIGN_UP(r->buffer_slots * sizeof(struct io_uring_buf), (size_t)IO_BLOCK_BYTES));
}

int ring_start(struct ring *r, uint32_t workers_max) {
    int result = io_uring_register((unsigned)r->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (result < 0) return result;
    r->started = true;
    /* Both only save time: where they are refused, the ring works without. */
    unsigned workers[2] = {workers_max, workers_max};
    (void)io_uring_register_iowq_max_workers(&r->uring, workers);
    (void)io_uring_register_ring_fd(&r->uring);
    return 0;
}

/* Makes the queued entries visible to the kernel; how many it has not taken yet. */
static unsigned flush(struct ring *r) {
    struct io_uring_sq *sq = &r->uring.sq;
    unsigned tail = *sq->ktail;
    while (sq->sqe_head != sq->sqe_tail) sq->array[tail++ & sq->ring_mask] = sq->sqe_head++ & sq->ring_mask;
    io_uring_smp_store_release(sq->ktail, tail);
    return tail - io_uring_smp_load_acquire(sq->khead);
}

static bool kernel_has_work(const struct ring *r) {
    if (!r->flags_work) return true;
    return IO_URING_READ_ONCE(*r->uring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

int ring_enter(struct ring *r, int64_t wait_ns) {
    unsigned to_submit = flush(r);
    if (io_uring_cq_ready(&r->uring) > 0) wait_ns = 0;
    if (to_submit == 0 && wait_ns <= 0 && !kernel_has_work(r)) return 0;
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    int fd = r->uring.ring_fd;
    if (r->uring.enter_ring_fd != fd) {
        fd = r->uring.enter_ring_fd;
        flags |= IORING_ENTER_REGISTERED_RING;
    }
    struct __kernel_timespec limit = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
    struct io_uring_getevents_arg arg = {
        .sigmask_sz = _NSIG / 8, .ts = wait_ns > 0 && wait_ns < INT64_MAX ? (uint64_t)(uintptr_t)&limit : 0};
    int result = io_uring_enter2((unsigned)fd, to_submit, wait_ns > 0 ? 1 : 0, flags, (sigset_t *)&arg, sizeof arg);
    return result == -ETIME || result == -EINTR ? 0 : result;
}

void ring_buffer_add(struct ring *r, void *buf, uint32_t len, uint16_t id) {
    io_uring_buf_ring_add(r->buffers, buf, len, id, io_uring_buf_ring_mask(r->buffer_slots), 0);
    io_uring_buf_ring_advance(r->buffers, 1);
}
