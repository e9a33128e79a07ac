"""HTTP mode: one request and its response, from the pick to the last byte.

Bytes are passed on as they arrive, in both directions at once. What may still be sent again, if a
connection turns out to be dead, is kept until the first byte of a response.
"""

import asyncio
import errno
import time

from fastlb.model.config import EjectErrors
from fastlb.model.events import EventKind
from fastlb.model.limits import LINGER_S, LINGER_SILENCE_S
from fastlb.pure.accounting import Record
from fastlb.pure.http1 import ParsedRequest, ParsedResponse, Refused, parse_response
from fastlb.pure.http_answer import Answering
from fastlb.pure.http_body import ResponseBody
from fastlb.pure.http_head import request_head, response_head, scheme_fits
from fastlb.pure.max_forwards import forwards_left
from fastlb.pure.relay import Relay
from fastlb.pure.requester import Requester
from fastlb.pure.timers import Patience
from fastlb.pure.upstream import Backend, UpstreamConnection
from fastlb.pure.worker import Worker

# RFC 9110 9.2.2: may be sent twice.
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
# Interim responses of one exchange; then it is the others' turn. A backend that sends them without
# end would hold the loop: uvloop reads on for as long as there is something.
_INTERIM_PER_TURN = 16


class HttpExchange(Answering):
    """One request of an HTTP client."""

    __slots__ = (
        "_awaiting",
        "_begun",
        "_bound",
        "_code",
        "_complete",
        "_cut_short",
        "_finished",
        "_head",
        "_keep",
        "_patience",
        "_read_on_later",
        "_received",
        "_resent",
        "_response_body",
        "_rest_until_s",
        "_tunnel",
    )

    def __init__(self, worker: Worker, client: Requester, request: ParsedRequest, record: Record) -> None:
        super().__init__(worker, client, request, record)
        self._awaiting = False  # the body, before a backend is picked
        self._resent = False
        self._bound: UpstreamConnection | None = None  # of this client, and not in use yet
        self._received = False  # any byte of a response
        self._begun = False  # and any since the request has ended
        self._head = b""  # the beginning of a response head, and heads that had to wait
        self._read_on_later: asyncio.Handle | None = None
        self._response_body: ResponseBody | None = None
        self._tunnel: Relay | None = None
        self._patience = Patience(client.deadline)
        self._keep = False  # the client connection, after the response
        self._code = "--"  # of a response that is not whole, or of our own
        self._cut_short = False  # it is not whole
        self._rest_until_s = 0.0  # so long the rest of the request is thrown away
        self._complete = False  # the whole response was received; the client may not have it all
        self._finished = False  # and it has; only the rest of the request is missing

    def start(self, data: bytes) -> bytes:
        """Read what came with the head, and pick. Returns: what belongs to the next request."""
        if not scheme_fits(self._request, self._client.peer):
            self._answer(421, "PR")
            return b""
        if 0 < self.worker.limits.body_bytes < self._request.length:
            self._answer(413, "PR")
            return data if self.ended else self.client_data(data)
        if forwards_left(self._request) == 0:
            self._answer_here()
            return data if self.ended else self.client_data(data)
        rest = self.client_data(data) if data else b""
        if not self.ended:
            self._awaiting = self._request.framing == "length" and not self._request.expects
            self._go_on()
        return rest

    def _go_on(self) -> None:
        """Pick a backend once there is as much of the body as is awaited: a slow client must not hold a
        place there."""
        self._awaiting = self._awaiting and self._body.awaits(self.worker.limits.request_buffer_bytes)
        if self._awaiting:
            self._client.resume()
        else:
            self.pick()
        if not self.ended:
            self._touch()

    # --- the request ------------------------------------------------------------------------

    def client_data(self, data: bytes) -> bytes:
        """Pass the body on. Returns: what comes behind it."""
        body = self._body
        if body.done or not data:
            return data
        try:
            piece, rest, whole = body.take(data)
        except Refused as refused:
            self.record.bytes_in += refused.taken_bytes
            self._bad_body(refused.status)
            return b""
        self.record.bytes_in += len(data) - len(rest)
        if self._awaiting and not self._complete:
            self._go_on()
            return rest
        if whole and self._response is None:
            self._begun = False
        if piece and not (self._finished and self._upstream is None):
            self._pass_on(piece)
        if self._complete and whole:
            self._backend_done()
        if self._finished and whole:
            self._finish()
        elif self._finished and self._upstream is None and self.worker.loop.time() >= self._rest_until_s:
            self._end_rest(linger=True)
        else:
            self._touch()
        return rest

    def _pass_on(self, piece: bytes) -> None:
        upstream = self._upstream
        if upstream is None:
            waits = self._body.too_long_to_keep
        else:
            upstream.send(piece)
            if self._body.too_long_to_keep:
                self._body.forget()
            waits = upstream.full
        if waits and not self._body.done:
            self._client.pause()

    def _bad_body(self, status: int) -> None:
        if self._finished:
            self._end_rest(linger=True)
        elif self._response is None:
            self._answer(status, "PD" if status == 413 else "PR")
        else:
            self._break("PD")

    def upstream_full(self) -> None:
        if self._upstream is not None:
            self.worker.buffers.hold(self._upstream)
        if not self._body.done:
            self._client.pause()

    def upstream_drained(self) -> None:
        if not self._body.done:
            self._client.resume()
            self._touch()

    # --- connections ------------------------------------------------------------------------

    def pick(self) -> None:
        """Go on with the connection that is authenticated for this client, if there is one, or pick."""
        bound = self._client.bound
        if bound is not None:
            bound.unbind()
            backend = bound.backend
            if backend.pooling and bound.is_quiet() and self.worker.balancer.acquire_at(backend.slot):
                self._bound = bound
                self._take(backend.slot)
                return
            bound.discard()
        super().pick()

    def _reach(self, backend: Backend) -> None:
        bound, self._bound = self._bound, None
        upstream = bound or backend.take()
        if upstream is None:
            self._connect(backend)
            return
        self.record.tries += 1
        self.record.connected_ns = self.record.picked_ns
        self._connected(upstream)

    def _connected(self, upstream: UpstreamConnection) -> None:
        """Send the head and what there is of the body, in one write."""
        self._upstream = upstream
        request = self._request
        if request.binds:
            upstream.private = True
        head = request_head(
            request,
            self._client.peer,
            self.worker.names,
            self.worker.via,
            upstream.backend.host,
        )
        body = self._body
        upstream.send(head + body.all_kept())
        if request.method not in _IDEMPOTENT or body.too_long_to_keep:
            body.forget()
        if not body.done and not upstream.full:
            self._client.resume()
        self._touch()
        upstream.resume()
        upstream.attach(self)

    def _unavailable(self, status: int, code: str) -> None:
        self._answer(status, code)

    def upstream_eof(self) -> None:
        self._upstream_over(None)

    def upstream_lost(self, error: Exception | None) -> None:
        self._upstream_over(error)

    def _upstream_over(self, error: Exception | None) -> None:
        upstream = self._upstream
        backend = self.backend
        assert upstream is not None and backend is not None
        self._drop_upstream()
        if self._complete:
            self._rest_unwanted()
        elif self._response is not None:
            assert self._response_body is not None
            if self._response_body.ends_with_connection and error is None:
                self._to_client(self._response_body.last())
                self._response_over()
            else:
                self._cut("SD")
        elif not self._send_again(backend, upstream, error):
            self._answer(502, "SH")

    def _send_again(self, backend: Backend, upstream: UpstreamConnection, error: Exception | None) -> bool:
        """Nothing was answered: send what may be repeated once more (RFC 9110 9.2.2).

        A reused connection may have been stale, so the same backend gets another chance, for which no
        budget is asked: its cause is an idle time-out, not a failing pool. One that
        breaks a fresh connection has failed: a backend that dies may accept one more and reset it.
        """
        if self._body.kept:
            self._touch()
            if upstream.reused and not self._resent:
                self._resent = True
                self.worker.accounts.retries += 1
                self._connect(backend)
                return True
        self.worker.failed(backend, EventKind.BACKEND_FAILED, getattr(error, "errno", 0) or 0)
        return self._body.kept and self.try_another()

    # --- the response -----------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        """Pass a response on, piece by piece."""
        self._begun = True
        if not self._received:
            self._received = True
            self._body.forget()
            self.record.first_byte_ns = time.monotonic_ns()
        if self._response is not None:
            self._read_body(data)
            return
        self._head = self._head + data if self._head else data
        self._read_on()

    def _read_on(self) -> None:
        if self._read_on_later is not None:
            self._read_on_later.cancel()
            self._read_on_later = None
        if self._upstream is None:
            return
        try:
            self._read_heads(self._upstream)
        except Refused:
            self._bad_response()

    def _read_heads(self, upstream: UpstreamConnection) -> None:
        """Pass interim responses on until the final one comes (RFC 9110 15.2), a few in one turn and
        none while the client is full."""
        for _ in range(_INTERIM_PER_TURN):
            if self._client.full:
                break
            response = parse_response(self._head, self._request.method, self.worker.limits)
            if response is None:
                upstream.resume()
                self._touch()
                return
            rest, self._head = self._head[response.head_bytes :], b""
            if response.status == 101:
                self._switch(response, rest)
                return
            if response.status >= 200:
                upstream.resume()
                body = ResponseBody(response, self._request.version, self.worker.names)
                taken = body.take(rest)  # what is wrong with it is known before anything is sent
                self._open_response(response, body, taken)
                return
            self._continued = True
            if self._request.version == 11:
                self._to_client(response_head(response))
            self._head = rest
        else:
            self._read_on_later = self.worker.loop.call_soon(self._read_on)
        upstream.pause()
        self._touch()

    def _open_response(
        self, response: ParsedResponse, body: ResponseBody, taken: tuple[bytes, bool, bool]
    ) -> None:
        """Send the head, framed as this client needs it, with the body bytes that came along."""
        request = self._request
        assert self.backend is not None
        if self.worker.config.eject_errors.counts(response.status):
            self.worker.failed(self.backend, EventKind.BACKEND_ERROR, 0)
        else:
            self.backend.failed_in_a_row = 0
            if EjectErrors.ALL.counts(response.status):
                self.worker.balancer.blame(self.backend.slot)
        if response.binds and self._upstream is not None:
            self._upstream.private = True
        self._response = response
        self._response_body = body
        self._keep = (
            request.keep_alive and self._rest_is_short() and not self.worker.draining and body.delimited
        )
        self.record.status = response.status
        head = response_head(response, chunked=body.chunked, connection=self._connection_value(self._keep))
        self._relay_body(head, *taken)

    def _read_body(self, data: bytes) -> None:
        assert self._response_body is not None
        try:
            taken = self._response_body.take(data)
        except Refused as refused:
            self._to_client(self._response_body.framed(refused.body))
            self._cut("PD")
        else:
            self._relay_body(b"", *taken)

    def _relay_body(self, head: bytes, piece: bytes, done: bool, extra: bool) -> None:
        """Send `head` and `piece`; if that is all there is, end the response."""
        assert self._response is not None
        self._to_client(head + piece if head else piece)
        if done:
            if self._body.done or extra:
                self._detach_upstream(reusable=not extra)
            self._response_over()
        else:
            self._touch()

    def _detach_upstream(self, *, reusable: bool) -> None:
        """Back into the pool, if the next response on it cannot be mistaken for this one."""
        upstream, self._upstream = self._upstream, None
        assert upstream is not None and self._response is not None
        upstream.user = None
        if reusable and self._body.done and self._response.keep_alive and not upstream.eof:
            if not upstream.private:
                upstream.backend.put(upstream)
            elif self._keep:
                upstream.bind(self._client)
            else:
                upstream.close()
        elif self._body.done:
            upstream.close()
        else:
            upstream.discard()

    def _response_over(self) -> None:
        """Everything was received. The unit is free, even if the client reads slowly."""
        self._complete = True
        if self._upstream is None:
            self.give_back()
        if self._client.full:
            self._touch()
        else:
            self._finish()

    def _cut(self, code: str) -> None:
        """There will be no more of the response. The client gets what there is, and an end that it cannot
        take for the right one."""
        self._code = code
        self._cut_short = True
        self._keep = False
        self._drop_upstream()
        self._response_over()

    def _backend_done(self) -> None:
        """It has sent the whole response, and has the whole request: it is free for others."""
        if self._upstream is not None:
            self._detach_upstream(reusable=True)
        self.give_back()

    def _finish(self) -> None:
        """The client has the whole response. The request may not be over: its backend may go on reading."""
        if self._body.done:
            self._backend_done()
        if self._body.done or self._cut_short:
            cut = self._cut_short and self._response_body is not None and not self._response_body.delimited
            self._over(self._code, keep=self._keep, linger=not self._keep, cut=cut)
            return
        self._finished = True
        if self._upstream is None or (self._may_not_come() and not self._continued):
            self._rest_unwanted()
            return
        if not self._keep:
            self._client.finish()
        self._touch()

    def _answered(self, code: str, *, keep: bool) -> None:
        if keep and not self._body.done:
            self._code = code
            self._keep = keep
            self._response_over()
        else:
            super()._answered(code, keep=keep)

    # --- the rest of a request that has its response ----------------------------------------

    def _rest_unwanted(self) -> None:
        """The backend takes no more of it. It is thrown away if it is short, so that the next request is
        found; else until the client has seen its response (RFC 9112 9.6)."""
        self._drop_upstream()
        self.give_back()
        if not self._finished:
            return
        if self._keep and self._body.short:
            self._body.limit_rest()
            self._rest_until_s = self.worker.loop.time() + LINGER_S
            self._client.resume()
            self._touch()
        else:
            self._end_rest(linger=True)

    def _end_rest(self, *, linger: bool) -> None:
        self._drop_upstream()
        self._over(self._code, keep=False, linger=linger)

    def _bad_response(self) -> None:
        assert self.backend is not None
        self.worker.failed(self.backend, EventKind.BACKEND_FAILED, 0)
        self._answer(502, "PH")

    def _switch(self, response: ParsedResponse, rest: bytes) -> None:
        """After 101 the connection is a tunnel (RFC 9110 7.8). Nobody else gets one."""
        upstream = self._upstream
        if not self._request.upgrade or not self._body.done or upstream is None:
            raise Refused(502, "101 that was not asked for")
        upstream.backend.failed_in_a_row = 0
        self.record.status = 101
        self._to_client(response_head(response))
        timeouts = self.worker.timeouts
        self._tunnel = relay = upstream.user = Relay(
            self._client,
            upstream,
            record=self.record,
            deadline=self._client.deadline,
            idle_s=timeouts.tunnel_s,
            fin_s=timeouts.fin_s,
            buffers=self.worker.buffers,
            ended=self._tunnel_over,
        )
        early = self._client.tunnel(relay)
        self.record.bytes_in += len(early)
        relay.start(early, rest)

    def _tunnel_over(self, code: str) -> None:
        self._upstream = None
        self._over(code, keep=False, linger=False)

    # --- the client -------------------------------------------------------------------------

    def client_full(self) -> None:
        self.worker.buffers.hold(self._client)
        if self._upstream is not None:
            self._upstream.pause()

    def client_drained(self) -> None:
        if self._complete:
            if not self._finished:
                self._finish()
        elif self._upstream is None:
            return
        elif self._received and self._response is None:
            self._read_on()
        else:
            self._upstream.resume()
            self._touch()

    def client_eof(self) -> None:
        """In HTTP a client that sends FIN is taken to have left, unless it only reads the rest."""
        if self._complete and not self._finished:
            self._keep = False
        else:
            self._client_left()

    def client_hung_up(self) -> None:
        """A FIN behind what is not read: of the body, unless there is nobody yet to read it for."""
        if self._body.done or self.waiting_phase:
            self.client_eof()

    def client_lost(self, error: Exception | None) -> None:
        self._client_left()

    def _client_left(self) -> None:
        if self._finished:
            self._end_rest(linger=False)
            return
        if not self.record.status:
            self.record.status = 499
            self.record.unanswered = True
        code = "C" + self._phase
        if self._response_body is not None and not self._response_body.delimited:
            self._break(code)  # FIN would be the end of the response
        else:
            self._drop_upstream(reset=True)
            self._over(code, keep=False, linger=False)

    # --- the end ----------------------------------------------------------------------------

    @property
    def _phase(self) -> str:
        if self.waiting_phase:
            return self.waiting_phase
        if self._awaiting:
            return "R"
        if self._complete:
            return "L"
        return "D" if self._response is not None or not self._body.done else "H"

    def expired(self) -> None:
        """Somebody was silent for too long."""
        if self._patience.goes_on():
            return
        if self._finished and self._upstream is not None and self._upstream.full:
            self._rest_unwanted()
        elif self._finished:
            self._end_rest(linger=True)
        elif self._complete:
            self._break("cL")
        elif self._response is not None:
            if self._client.full or not (self._body.done or self._client.paused):
                self._break("cD")
            else:
                self._cut("sD")
        elif self._client.full:  # it does not take interim responses
            self._break("c" + self._phase)
        elif self._body.done:
            self._too_slow("sH")
        elif self._client.paused:
            self._too_slow("sD")
        else:
            self._answer(408, "c" + self._phase)

    def _too_slow(self, code: str) -> None:
        """The backend does not answer, or does not even read the request."""
        if self._upstream is not None:
            self.worker.failed(self._upstream.backend, EventKind.BACKEND_FAILED, errno.ETIMEDOUT)
        self._answer(504, code)

    def end(self, code: str) -> None:
        super().end(code if self._code == "--" else self._code)  # the first one to say so is right

    def kill(self) -> None:
        """The engine stops."""
        self._break("K" + self._phase)

    def backend_out(self, who: str) -> None:
        """Answer, or cut an answer off that has begun; one that is complete still reaches the client."""
        if self._tunnel is not None:
            self._tunnel.kill(who)
        elif self._complete:
            if self._upstream is not None:
                self._rest_unwanted()
        elif not self.waiting_phase:
            self._answer(502, who + self._phase)

    def _touch(self) -> None:
        """Something moved: set the time-out of what is waited for now."""
        wait = self._patience.begin
        timeouts = self.worker.timeouts
        if self._finished:
            wait(LINGER_SILENCE_S, *(() if self._upstream is None else (self._upstream,)))
        elif self._client.full:
            wait(timeouts.send_s, self._client)
        elif self._begun:
            wait(timeouts.tunnel_s, *(() if self._upstream is None else (self._upstream,)))
        elif not self._body.done:
            if not self._client.paused:
                wait(timeouts.idle_s)
            elif self._upstream is not None:
                wait(timeouts.tunnel_s, self._upstream)
            else:
                self._client.deadline.clear()  # the queue and the connect have times of their own
        elif timeouts.response_s is not None and self._upstream is not None:
            wait(timeouts.response_s)
        else:
            self._client.deadline.clear()
