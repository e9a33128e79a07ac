"""What an HTTP exchange tells its client by itself, and the ways it ends: answered, broken off, over."""

from fastlb.model.proxied import Ends
from fastlb.pure.accounting import Record
from fastlb.pure.exchange import Exchange
from fastlb.pure.http1 import ParsedRequest, ParsedResponse
from fastlb.pure.http_body import RequestBody
from fastlb.pure.http_head import answer
from fastlb.pure.max_forwards import final_answer
from fastlb.pure.peer import client_ends
from fastlb.pure.requester import Requester
from fastlb.pure.upstream import UpstreamConnection
from fastlb.pure.worker import Worker

# Our own answers behind which a connection goes on: the request is understood.
_UNDERSTOOD = frozenset({413, 502, 503, 504})


class Answering(Exchange):
    """An exchange whose client can be answered in place of a backend.

    The subclass relays; what is here sends nothing to a backend.
    """

    __slots__ = ("_body", "_client", "_continued", "_request", "_response", "_upstream")

    def __init__(self, worker: Worker, client: Requester, request: ParsedRequest, record: Record) -> None:
        super().__init__(worker, record)
        self._client = client
        self._request = request
        self._body = RequestBody(request, worker.limits.body_bytes, worker.names, worker.buffers)
        self._upstream: UpstreamConnection | None = None
        self._continued = False  # an interim response has come
        self._response: ParsedResponse | None = None  # the final one, once its head was passed on

    def _client_ends(self) -> Ends | None:
        return client_ends(self._client.sock, self._client.peer)

    def _to_client(self, data: bytes) -> None:
        if data:
            self.record.bytes_out += len(data)
            self._client.send(data)

    def _connection_value(self, keep: bool) -> bytes:
        if not keep:
            return b"close"
        return b"keep-alive" if self._request.version == 10 else b""

    def _answer(self, status: int, code: str) -> None:
        """Answer in place of a backend."""
        self._drop_upstream()
        if self._response is not None:
            self._break(code)
            return
        keep = (
            status in _UNDERSTOOD
            and self._rest_is_short()
            and self._request.keep_alive
            and not self.worker.draining
        )
        self.record.status = status
        self._to_client(
            answer(
                status,
                connection=self._connection_value(keep),
                retry_after_s=self.worker.plan.retry_after_s if status == 503 else 0,
                bodyless=self._request.method == b"HEAD",
            )
        )
        self._answered(code, keep=keep)

    def _answered(self, code: str, *, keep: bool) -> None:
        """An answer of our own is on its way."""
        self._over(code, keep=keep, linger=True)

    def _may_not_come(self) -> bool:
        """True if the client was to be told whether to send its body: now it may send it or not."""
        return self._request.expects and not self._body.begun

    def _rest_is_short(self) -> bool:
        """True if the next request can be found although this one has its response already. How long
        chunks will be is found out later."""
        return self._body.done or (self._body.short and not self._may_not_come())

    def _answer_here(self) -> None:
        """Max-Forwards is used up: this is where the request ends."""
        keep = self._rest_is_short() and self._request.keep_alive and not self.worker.draining
        self.record.status = 200
        self._to_client(final_answer(self._request, connection=self._connection_value(keep)))
        self._answered("L-", keep=keep)

    def _break(self, code: str) -> None:
        """End so that the client cannot take what it got for the whole."""
        self._drop_upstream(reset=True)
        self._client.reset()
        self._over(code, keep=False, linger=False)

    def _over(self, code: str, *, keep: bool, linger: bool, cut: bool = False) -> None:
        if not self.ended:
            self._body.forget()
            self.end(code)
            self._client.exchange_over(keep=keep, linger=linger, cut=cut)

    def _drop_upstream(self, *, reset: bool = False) -> None:
        """Close the connection to the backend. `reset`: its work is to end at once."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.user = None
            if reset:
                upstream.reset()
            elif not upstream.lost:
                upstream.discard()
