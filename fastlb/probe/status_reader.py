"""Reads the status out of a response head, as a client would: with httptools, or h11 where there is none.

httptools has no wheels for PyPy; h11 is there anyway for the pure engine. Both skip interim
responses (RFC 9110 15.2), and neither looks at a byte after the head.
"""

import importlib.util
from typing import Protocol

HEAD_MAX_BYTES = 65_536


class NotHTTPError(Exception):
    """The bytes are no HTTP response."""


class StatusReader(Protocol):
    """Fed with bytes as they arrive, until it knows the status."""

    def feed(self, data: bytes) -> int | None:
        """The final status, or None if more is needed. Raises: NotHTTPError."""


class HttptoolsReader:
    """A status reader on llhttp."""

    def __init__(self) -> None:
        import httptools

        self._parser = httptools.HttpResponseParser(self)
        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._status: int | None = None

    def on_headers_complete(self) -> None:
        """Called by the parser at the blank line."""
        status = self._parser.get_status_code()
        if self._status is None and (status >= 200 or status == 101):
            self._status = status

    def feed(self, data: bytes) -> int | None:
        """See StatusReader."""
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            # What follows the head may well be nonsense; the status is known by then.
            if self._status is None:
                raise NotHTTPError(str(error)) from error
        return self._status


class H11Reader:
    """A status reader on h11."""

    def __init__(self) -> None:
        import h11

        self._h11 = h11
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)
        self._connection.send(h11.Request(method="GET", target="/", headers=[("Host", "probe")]))
        self._connection.send(h11.EndOfMessage())

    def feed(self, data: bytes) -> int | None:
        """See StatusReader."""
        self._connection.receive_data(data)
        try:
            while True:
                event = self._connection.next_event()
                if isinstance(event, self._h11.Response):
                    return event.status_code
                if not isinstance(event, self._h11.InformationalResponse):
                    return None
        except self._h11.RemoteProtocolError as error:
            raise NotHTTPError(str(error)) from error


def new_status_reader() -> StatusReader:
    """The fastest reader that this installation has."""
    if importlib.util.find_spec("httptools") is None:
        return H11Reader()
    return HttptoolsReader()
