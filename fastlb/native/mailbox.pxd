"""Letters from the control plane to a worker: a bounded ring and an eventfd.

Many may write, one reads. A letter is never lost: a full box refuses it and the writer, who is in
Python and may wait, tries again.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from fastlb.native.linux cimport read, write
from fastlb.native.types cimport (
    MAILBOX_LETTERS, letter_t, mailbox_t, spin_lock, spin_unlock, worker_t,
)


cdef inline void wake(int wake_fd) noexcept nogil:
    """Make an eventfd readable. It cannot block: the counter is read long before it is full."""
    cdef uint64_t one = 1
    write(wake_fd, &one, sizeof(one))


cdef inline void wake_seen(int wake_fd) noexcept nogil:
    cdef uint64_t count
    read(wake_fd, &count, sizeof(count))


cdef inline bint mailbox_post(worker_t* worker, uint32_t kind, int32_t value, uint32_t role) noexcept nogil:
    cdef mailbox_t* box = &worker.mailbox
    cdef letter_t* letter
    cdef bint room
    spin_lock(&box.lock)
    room = box.tail - box.head < MAILBOX_LETTERS
    if room:
        letter = &box.letters[box.tail % MAILBOX_LETTERS]
        letter.kind = kind
        letter.value = value
        letter.role = role
        box.tail += 1
    spin_unlock(&box.lock)
    if room:
        wake(worker.wake_fd)
    return room


cdef inline bint mailbox_take(worker_t* worker, letter_t* into) noexcept nogil:
    cdef mailbox_t* box = &worker.mailbox
    cdef bint found
    spin_lock(&box.lock)
    found = box.head != box.tail
    if found:
        into[0] = box.letters[box.head % MAILBOX_LETTERS]
        box.head += 1
    spin_unlock(&box.lock)
    return found
