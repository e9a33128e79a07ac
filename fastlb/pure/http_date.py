"""The Date field of responses that pass without one, and of our own (RFC 9110 6.6.1)."""

import time
from email.utils import formatdate
from functools import lru_cache


def date_field() -> bytes:
    """`Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF, for the second that is now; made once a second."""
    return _date_field(int(time.time()))


@lru_cache(maxsize=1)
def _date_field(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
