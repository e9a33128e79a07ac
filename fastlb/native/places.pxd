"""Places: connections to one backend, of all workers together, idle ones and those being opened included.

A backend with `max_conns` accepts so many and no more (a server with so many processes, or one that closes
what is above its limit), so an idle connection of one worker can keep out a new one of another. Each
connection takes a place before its socket is made and gives it back when its socket is closed.

A worker that finds no place and has no idle connection of its own enters the set `wanted` of the backend
and asks the others by letter (LETTER_ROOM). Who has an idle one, or gets one back while the set is not
empty, hands it over (LETTER_TAKE): the connection stays open and its place taken, so the backend never sees
one too many. Whoever closes one wakes the members of the set. An exchange has taken a unit of its backend
before, and units have the same limit: with every place taken there are at least as many idle connections
as exchanges that wait, so each of them is served. Its wait is bounded by --connect-timeout all the same.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastlb.native.mailbox cimport wake
from fastlb.native.types cimport (
    backend_t, counter_add_shared, flag_read, places_give, places_take, set_first, set_read, worker_t,
)


cdef inline bint place_take(backend_t* backend) noexcept nogil:
    """False if the backend has as many connections as it may have."""
    cdef uint32_t limit = flag_read(&backend.conns_max)
    if limit:
        return places_take(&backend.open, limit)
    counter_add_shared(&backend.open, 1)
    return True


cdef inline void place_give(worker_t* worker, backend_t* backend) noexcept nogil:
    """The socket is closed: wake who waits for its place."""
    cdef uint64_t waiting
    places_give(&backend.open)
    waiting = set_read(&backend.wanted)
    while waiting:
        wake(worker.settings.wake_fds[set_first(waiting, 0)])
        waiting &= waiting - 1
