"""One thread, one epoll loop: events, then time-outs, then unfinished work.

The clock is read once for each turn. A turn handles at most EVENTS_PER_TURN events, so nobody
waits long for his own.
"""

from fastlb.native.types cimport settings_t, worker_t

cdef bint worker_init(worker_t* worker, unsigned int worker_id, settings_t* settings) noexcept nogil
cdef void worker_run(worker_t* worker) noexcept nogil
cdef void worker_close(worker_t* worker) noexcept nogil
cdef void worker_free(worker_t* worker) noexcept nogil
