/* Locks and counters that worker threads share.
 *
 * spin_t: held for tens of instructions at most, never across a system call. A waiter spins
 * briefly and then yields, because with fewer cores than threads the holder may be off its core.
 * Counters: one writer or many, relaxed; a reader sees a value that was true a moment ago.
 */
#ifndef FASTLB_ATOMICS_H
#define FASTLB_ATOMICS_H

#include <sched.h>
#include <stdint.h>

typedef struct {
    int taken;
} spin_t;

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline void spin_lock(spin_t *lock) {
    unsigned turns = 0;
    while (__atomic_exchange_n(&lock->taken, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&lock->taken, __ATOMIC_RELAXED)) {
            if (++turns % 64 == 0)
                sched_yield();
            else
                cpu_relax();
        }
    }
}

static inline void spin_unlock(spin_t *lock) {
    __atomic_store_n(&lock->taken, 0, __ATOMIC_RELEASE);
}

static inline uint64_t counter_read(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* For a counter with one writer: cheaper than a locked add, and a reader never sees half of it. */
static inline void counter_add(uint64_t *counter, uint64_t amount) {
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

/* For a counter with many writers. Returns the new value. */
static inline uint64_t counter_add_shared(uint64_t *counter, uint64_t amount) {
    return __atomic_add_fetch(counter, amount, __ATOMIC_RELAXED);
}

static inline void counter_clear_shared(uint64_t *counter) {
    if (__atomic_load_n(counter, __ATOMIC_RELAXED))
        __atomic_store_n(counter, 0, __ATOMIC_RELAXED);
}

/* Places: a counter with a limit, and a set of workers (a bit each) that wait for room below it. Who waits
 * enters the set and looks again; who makes room lowers the counter and reads the set. Each does the
 * second only after the first, or both would miss the other: hence the one order for all of them. */
static inline int places_take(uint64_t *taken, uint64_t limit) {
    uint64_t seen = __atomic_load_n(taken, __ATOMIC_SEQ_CST);
    do {
        if (seen >= limit)
            return 0;
    } while (!__atomic_compare_exchange_n(taken, &seen, seen + 1, 1, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return 1;
}

static inline void places_give(uint64_t *taken) {
    __atomic_sub_fetch(taken, 1, __ATOMIC_SEQ_CST);
}

static inline uint64_t set_read(const uint64_t *set) {
    return __atomic_load_n(set, __ATOMIC_SEQ_CST);
}

/* Returns whether it was in the set before. */
static inline int set_add(uint64_t *set, uint32_t member) {
    uint64_t bit = (uint64_t)1 << member;
    return (__atomic_fetch_or(set, bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

static inline int set_remove(uint64_t *set, uint32_t member) {
    uint64_t bit = (uint64_t)1 << member;
    return (__atomic_fetch_and(set, ~bit, __ATOMIC_SEQ_CST) & bit) != 0;
}

/* The first member from `start` on, going round. `members` is not empty. */
static inline uint32_t set_first(uint64_t members, uint32_t start) {
    uint64_t behind = members >> start << start;
    return (uint32_t)__builtin_ctzll(behind ? behind : members);
}

static inline uint32_t flag_read(const uint32_t *flag) {
    return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static inline void flag_write(uint32_t *flag, uint32_t value) {
    __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

static inline uint32_t flag_swap(uint32_t *flag, uint32_t value) {
    return __atomic_exchange_n(flag, value, __ATOMIC_ACQ_REL);
}

#endif
