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
