"""See http_date.pxd."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from fastlb.native.linux cimport CLOCK_REALTIME, clock_ns, gmtime_r, tm
from fastlb.native.types cimport worker_t


cdef const char* date_field(worker_t* worker) noexcept nogil:
    """`Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF, for the second that is now.

    Cost: one comparison. The time of day is asked, and the text made, once a second: the clock that
    the turn has read already tells when that is over. A clock that was set is seen as late as that.
    """
    cdef uint64_t wall_ns
    if worker.now_ns >= worker.date_until_ns:
        wall_ns = clock_ns(CLOCK_REALTIME)
        worker.date_until_ns = worker.now_ns + 1_000_000_000 - wall_ns % 1_000_000_000
        date_write(worker.date, <int64_t> (wall_ns // 1_000_000_000))
    return worker.date


cdef void date_write(char* into, int64_t second) noexcept nogil:
    """IMF-fixdate (RFC 9110 5.6.7), whose names of days and months are English everywhere."""
    cdef const char* days = "SunMonTueWedThuFriSat"
    cdef const char* months = "JanFebMarAprMayJunJulAugSepOctNovDec"
    cdef tm parts
    gmtime_r(&second, &parts)
    memcpy(into, b"Date: ___, __ ___ ____ __:__:__ GMT\r\n", DATE_FIELD_BYTES)
    memcpy(into + 6, days + 3 * parts.tm_wday, 3)
    digits_write(into + 11, 2, parts.tm_mday)
    memcpy(into + 14, months + 3 * parts.tm_mon, 3)
    digits_write(into + 18, 4, parts.tm_year + 1900)
    digits_write(into + 23, 2, parts.tm_hour)
    digits_write(into + 26, 2, parts.tm_min)
    digits_write(into + 29, 2, parts.tm_sec)


cdef void digits_write(char* into, int width, int value) noexcept nogil:
    while width > 0:
        width -= 1
        into[width] = <char> (c'0' + value % 10)
        value //= 10
