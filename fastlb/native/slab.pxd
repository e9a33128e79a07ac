"""Objects of one kind in chunks that never move. Giving one back counts up its generation.

The first two fields of every object are `uint32_t index` and `uint32_t generation`; while an
object is free, its third word holds the next free index + 1. Not thread-safe: one worker each.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastlb.native.types cimport SLAB_CHUNK, slab_t


cdef struct slab_object_t:
    uint32_t index
    uint32_t generation
    uint32_t free_next


cdef inline void slab_init(slab_t* slab, uint32_t object_bytes) noexcept nogil:
    memset(slab, 0, sizeof(slab_t))
    slab.object_bytes = object_bytes


cdef inline void* slab_at(slab_t* slab, uint32_t index) noexcept nogil:
    """The object at `index`, free or not. An index that was once taken stays valid."""
    return slab.chunks[index // SLAB_CHUNK] + <size_t> (index % SLAB_CHUNK) * slab.object_bytes


cdef inline bint slab_grow(slab_t* slab) noexcept nogil:
    cdef uint8_t** chunks
    cdef uint8_t* chunk
    cdef slab_object_t* item
    cdef uint32_t i, first = slab.chunk_count * SLAB_CHUNK
    chunks = <uint8_t**> realloc(slab.chunks, (slab.chunk_count + 1) * sizeof(uint8_t*))
    if chunks == NULL:
        return False
    slab.chunks = chunks
    chunk = <uint8_t*> calloc(SLAB_CHUNK, slab.object_bytes)
    if chunk == NULL:
        return False
    for i in range(SLAB_CHUNK):
        item = <slab_object_t*> (chunk + <size_t> i * slab.object_bytes)
        item.index = first + i
        item.free_next = first + i + 2 if i + 1 < SLAB_CHUNK else slab.free_head
    slab.chunks[slab.chunk_count] = chunk
    slab.chunk_count += 1
    slab.free_head = first + 1
    return True


cdef inline void* slab_take(slab_t* slab) noexcept nogil:
    """An object with its index and generation; the rest is what was left in it. NULL without
    memory."""
    cdef slab_object_t* item
    cdef uint32_t index
    if slab.free_head == 0 and not slab_grow(slab):
        return NULL
    index = slab.free_head - 1
    item = <slab_object_t*> slab_at(slab, index)
    slab.free_head = item.free_next
    slab.live += 1
    item.free_next = 0
    return item


cdef inline void slab_give(slab_t* slab, void* taken) noexcept nogil:
    cdef slab_object_t* item = <slab_object_t*> taken
    item.generation += 1
    item.free_next = slab.free_head
    slab.free_head = item.index + 1
    slab.live -= 1


cdef inline void slab_free(slab_t* slab) noexcept nogil:
    cdef uint32_t i
    for i in range(slab.chunk_count):
        free(slab.chunks[i])
    free(slab.chunks)
    slab.chunks = NULL
    slab.chunk_count = slab.free_head = slab.live = 0
