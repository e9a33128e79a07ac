/* The part of io_uring that sends: many sends, one system call.
 *
 * Facts:
 * - A send with MSG_DONTWAIT is done inside io_uring_enter(), in the order of the queue; whoever
 *   comes back from it finds all results. One that would block has -EAGAIN, a short one says how
 *   much went, and EPOLLOUT is reported afterwards as it is for send().
 * - Containers often forbid io_uring_setup(); then uring_open() says so and nothing else changes.
 * - The layouts are the kernel's ABI. They are written down here because the headers that wheels
 *   are built with are older than it.
 */
#ifndef FASTLB_URING_H
#define FASTLB_URING_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    URING_SETUP = 425, /* system calls have the same numbers on all platforms since 2019 */
    URING_ENTER = 426,
    URING_OP_SEND = 26,
    URING_FEAT_SINGLE_MMAP = 1,
    URING_FEAT_FAST_POLL = 32, /* Linux 5.7: all that is used here is there */
    URING_OFF_SQES = 0x10000000,
    URING_ENTRIES = 64
};

struct uring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
    struct { uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1; uint64_t addr; } sq;
    struct { uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1; uint64_t addr; } cq;
};

struct uring_sqe {
    uint8_t opcode, flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off, addr;
    uint32_t len, msg_flags;
    uint64_t user_data, rest[3];
};

struct uring_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

/* OWNER: one worker. fd is -1 when there is no ring. */
typedef struct {
    int fd;
    uint32_t queued;
    uint8_t *rings;
    size_t rings_bytes;
    struct uring_sqe *sqes;
    struct uring_cqe *cqes;
    uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
} uring_t;

static inline void uring_close(uring_t *ring) {
    if (ring->fd < 0)
        return;
    munmap(ring->rings, ring->rings_bytes);
    munmap(ring->sqes, URING_ENTRIES * sizeof(struct uring_sqe));
    close(ring->fd);
    ring->fd = -1;
}

/* Returns 0, or the errno with ring->fd = -1. */
static inline int uring_open(uring_t *ring) {
    struct uring_params params;
    uint32_t i, *array;
    size_t sq_bytes, cq_bytes;
    int error;
    memset(ring, 0, sizeof *ring);
    memset(&params, 0, sizeof params);
    ring->fd = (int)syscall(URING_SETUP, URING_ENTRIES, &params);
    if (ring->fd < 0)
        return errno;
    if (!(params.features & URING_FEAT_SINGLE_MMAP) || !(params.features & URING_FEAT_FAST_POLL)) {
        close(ring->fd);
        ring->fd = -1;
        return ENOSYS;
    }
    sq_bytes = params.sq.array + params.sq_entries * sizeof(uint32_t);
    cq_bytes = params.cq.cqes + params.cq_entries * sizeof(struct uring_cqe);
    ring->rings_bytes = sq_bytes > cq_bytes ? sq_bytes : cq_bytes;
    ring->rings = mmap(NULL, ring->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, 0);
    ring->sqes = mmap(NULL, URING_ENTRIES * sizeof(struct uring_sqe), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_POPULATE, ring->fd, URING_OFF_SQES);
    if (ring->rings == MAP_FAILED || ring->sqes == MAP_FAILED) {
        error = errno;
        if (ring->rings != MAP_FAILED)
            munmap(ring->rings, ring->rings_bytes);
        if (ring->sqes != MAP_FAILED)
            munmap(ring->sqes, URING_ENTRIES * sizeof(struct uring_sqe));
        close(ring->fd);
        ring->fd = -1;
        return error;
    }
    ring->sq_tail = (uint32_t *)(ring->rings + params.sq.tail);
    ring->cq_head = (uint32_t *)(ring->rings + params.cq.head);
    ring->cq_tail = (uint32_t *)(ring->rings + params.cq.tail);
    ring->sq_mask = params.sq_entries - 1;
    ring->cq_mask = params.cq_entries - 1;
    ring->cqes = (struct uring_cqe *)(ring->rings + params.cq.cqes);
    array = (uint32_t *)(ring->rings + params.sq.array);
    for (i = 0; i < params.sq_entries; i++)
        array[i] = i;
    return 0;
}

/* Queue one send. At most URING_ENTRIES before uring_submit(). */
static inline void uring_send(uring_t *ring, uint64_t id, int fd, const void *of, uint32_t len) {
    struct uring_sqe *sqe = &ring->sqes[(*ring->sq_tail + ring->queued) & ring->sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = URING_OP_SEND;
    sqe->fd = fd;
    sqe->addr = (uintptr_t)of;
    sqe->len = len;
    sqe->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    sqe->user_data = id;
    ring->queued++;
}

/* Do what is queued. What the kernel did not take, for want of memory, is taken back. */
static inline void uring_submit(uring_t *ring) {
    uint32_t tail = *ring->sq_tail + ring->queued;
    long taken;
    __atomic_store_n(ring->sq_tail, tail, __ATOMIC_RELEASE);
    do
        taken = syscall(URING_ENTER, ring->fd, ring->queued, 0, 0, NULL, 0);
    while (taken < 0 && errno == EINTR);
    if (taken < 0)
        taken = 0;
    __atomic_store_n(ring->sq_tail, tail - (ring->queued - (uint32_t)taken), __ATOMIC_RELEASE);
    ring->queued = 0;
}

/* The next result: its id, and what send() would have returned or -errno. 0 if there is none. */
static inline int uring_result(uring_t *ring, uint64_t *id, int32_t *sent) {
    uint32_t head = *ring->cq_head;
    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
        return 0;
    *id = ring->cqes[head & ring->cq_mask].user_data;
    *sent = ring->cqes[head & ring->cq_mask].res;
    __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
    return 1;
}

#endif
