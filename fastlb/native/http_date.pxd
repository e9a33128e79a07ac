"""The Date field of responses that pass without one, and of our own (RFC 9110 6.6.1)."""

from fastlb.native.types cimport worker_t

cdef enum:
    DATE_FIELD_BYTES = 37        # with its name and CRLF

cdef const char* date_field(worker_t* worker) noexcept nogil
