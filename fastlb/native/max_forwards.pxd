"""Max-Forwards of TRACE and OPTIONS (RFC 9110 7.6.2): counted down, and answered here at zero.

A value that is no number, or a second one, is nobody's to judge: it is passed on as it is.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from fastlb.native.http1 cimport field_t, head_t
from fastlb.native.types cimport worker_t

cdef enum:
    FORWARDS_NONE = -1
    FORWARDS_MAX = 999_999_999       # what is passed on at most

cdef int64_t max_forwards_read(head_t* head, const uint8_t* text) noexcept nogil
cdef uint32_t max_forwards_left(const uint8_t* text, const field_t* field) noexcept nogil
cdef uint32_t max_forwards_answer(worker_t* worker, const head_t* head, const uint8_t* text, bint keep,
                                  bint to_http10) noexcept nogil
