"""An answer to a check, judged as the same answer to a client would be.

A check passes only on what traffic accepts, or every request would end with 502 while the check goes
on passing; and what traffic accepts must not fail a check. So the rules for responses are those of the
engines, of which fastlb/pure is the specification: they read what the backend sent, and a status reader
reads what a client would get of it.
"""

from fastlb.model.limits import LimitConfig
from fastlb.probe.status_reader import NotHTTPError, new_status_reader
from fastlb.pure.http1 import Refused, parse_response
from fastlb.pure.http_body import ResponseBody
from fastlb.pure.http_head import response_head


class RefusedError(Exception):
    """Traffic would end with 502; the text says why."""


class AnswerReader:
    """Fed with bytes as they arrive.

    `status`: the final one, None until its head is complete. `done`: the body has ended, as far as its
    framing tells.
    """

    def __init__(self, limits: LimitConfig) -> None:
        self._limits = limits
        self._head = b""
        self._body: ResponseBody | None = None
        self.status: int | None = None
        self.done = False

    def feed(self, data: bytes) -> None:
        """Read on. Raises: RefusedError."""
        try:
            rest = data if self._body is not None else self._read_head(data)
            if self._body is not None and not self.done:
                _, self.done, _ = self._body.take(rest)
        except Refused as refused:
            raise RefusedError(refused.why) from refused
        except NotHTTPError as error:
            raise RefusedError(str(error)) from error

    def _read_head(self, data: bytes) -> bytes:
        """What stands behind the final head."""
        self._head += data
        while (response := parse_response(self._head, b"GET", self._limits)) is not None:
            self._head = self._head[response.head_bytes :]
            if response.status == 101:
                raise Refused(502, "101 that was not asked for")
            if response.status >= 200:
                self._body = ResponseBody(response, 11)
                self.status = new_status_reader().feed(response_head(response, chunked=self._body.chunked))
                return self._head
        return b""
