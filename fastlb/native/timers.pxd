"""Time-outs as one list for each class: append at the tail, refresh at the tail, expire at the head.

Every member of a class waits equally long, so a list is always in the order of its deadlines and
no operation costs more than a few pointer writes. A connection waits for one time-out at a time.

A process may stand still (SIGSTOP, a machine that sleeps, a turn that takes long), and what came
meanwhile lies in the sockets. So a time-out is believed only after a poll that began behind it.
"""

from libc.stdint cimport uint64_t

from fastlb.native.types cimport TIMER_CLASSES, TIMER_NONE, connection_t, timer_list_t, worker_t


cdef inline void timer_cancel(worker_t* worker, connection_t* conn) noexcept nogil:
    cdef timer_list_t* waiting
    if conn.timer_class == TIMER_NONE:
        return
    waiting = &worker.timers[conn.timer_class]
    if conn.timer_prev != NULL:
        conn.timer_prev.timer_next = conn.timer_next
    else:
        waiting.head = conn.timer_next
    if conn.timer_next != NULL:
        conn.timer_next.timer_prev = conn.timer_prev
    else:
        waiting.tail = conn.timer_prev
    conn.timer_prev = conn.timer_next = NULL
    conn.timer_class = TIMER_NONE


cdef inline void timer_arm(worker_t* worker, connection_t* conn, int timer_class) noexcept nogil:
    """Wait for `timer_class` from now on, in place of what was waited for. A class whose duration
    is 0 never expires and is not armed."""
    cdef timer_list_t* waiting
    timer_cancel(worker, conn)
    if worker.settings.timeout_ns[timer_class] == 0:
        return
    waiting = &worker.timers[timer_class]
    conn.timer_class = timer_class
    conn.deadline_ns = worker.now_ns + worker.settings.timeout_ns[timer_class]
    conn.timer_prev = waiting.tail
    conn.timer_next = NULL
    if waiting.tail != NULL:
        waiting.tail.timer_next = conn
    else:
        waiting.head = conn
    waiting.tail = conn


cdef inline connection_t* timer_expired(worker_t* worker) noexcept nogil:
    """A connection whose time was over when epoll was last asked and had nothing of it, still armed,
    so that the caller sees for what; NULL if there is none. The caller must cancel or arm it anew."""
    cdef int timer_class
    cdef connection_t* conn
    for timer_class in range(1, TIMER_CLASSES):
        conn = worker.timers[timer_class].head
        if conn != NULL and conn.deadline_ns <= worker.heard_ns:
            return conn
    return NULL


cdef inline uint64_t timer_next_ns(worker_t* worker) noexcept nogil:
    """The earliest deadline; 0 if nothing waits."""
    cdef int timer_class
    cdef uint64_t earliest = 0
    cdef connection_t* conn
    for timer_class in range(1, TIMER_CLASSES):
        conn = worker.timers[timer_class].head
        if conn != NULL and (earliest == 0 or conn.deadline_ns < earliest):
            earliest = conn.deadline_ns
    return earliest
