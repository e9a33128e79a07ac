"""The Python edge of the native engine: model.contract.Engine over worker threads.

A worker thread enters `worker_run` without the GIL and leaves it when it is told to stop. Python
reaches the workers in three ways only: letters (mailbox), the balancer (behind its lock), and the
rings and counters that they write.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from itertools import islice

import orjson

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastlb.native.accounting cimport access_lines, ring_advance, ring_peek
from fastlb.native.balancer cimport (
    Balancer, balancer_forget, balancer_grant, balancer_in_flight, balancer_peek,
)
from fastlb.native.client_counts cimport client_counts_init
from fastlb.native.field_names cimport names_fill, names_fill_head
from fastlb.native.linux cimport (
    AF_INET, AF_INET6, AF_UNIX, CLOCK_MONOTONIC, CLOCK_REALTIME, EFD_CLOEXEC, EFD_NONBLOCK,
    clock_ns, eventfd, htons, inet_pton, sockaddr_in, sockaddr_in6, sockaddr_un,
)
from fastlb.native.mailbox cimport mailbox_post, wake, wake_seen
from fastlb.native.retry_budget cimport RETRY_UNLIMITED, retry_budget_init, retry_budget_t
from fastlb.native.slab cimport slab_at
from fastlb.native.types cimport (
    BACKENDS_CHUNK, BUFFER_CLASSES, FILTER_STEPS, LETTER_DEAF, LETTER_DRAIN, LETTER_END, LETTER_LISTEN,
    LETTER_PAUSE, LETTER_PURGE, LETTER_STOP, LETTER_TAKE, LISTEN_PROXIED, MAILBOX_LETTERS, ROLE_FREE,
    ROLE_HTTP_CLIENT, ROLE_LISTENER, ROLE_TCP_CLIENT, ROLE_UPSTREAM, SEND_LOOKS, SLAB_CHUNK, TIMER_ACCEPT,
    TIMER_CONNECT, TIMER_CUT, TIMER_FIN, TIMER_FRESH, TIMER_HEADER, TIMER_IDLE, TIMER_KEEPALIVE, TIMER_LINGER,
    TIMER_POOL, TIMER_QUEUE, TIMER_RESPONSE, TIMER_ROOM, TIMER_SEND, TIMER_SILENCE, TIMER_TUNNEL, X_COUNTED,
    backend_t, client_counts_t, connection_t, counter_read, event_t, exchange_t, flag_read, flag_write,
    letter_t, mailbox_t, network_t, settings_t, site_t, uring_close, uring_open, uring_t, worker_t,
)
from fastlb.native.worker cimport worker_close, worker_free, worker_init, worker_run

from fastlb.model.address import Address, check_addresses, socket_address
from fastlb.model.config import EjectErrors, EngineConfig, LogFormat, Mode
from fastlb.model.errors import ConfigError, StartError
from fastlb.model.events import Event, EventKind
from fastlb.model.handshake import HANDSHAKE_S, NO_SYN_PROGRAM
from fastlb.model.ledger import BackendCounts, Holdings, Ledger, ReadCounts, Verification
from fastlb.model.limits import (
    BACKENDS_MAX, IDLE_MAX, LAST_REQUEST_S, LINGER_S, LINGER_SILENCE_S, check_label,
)
from fastlb.model.own_ports import may_meet_itself
from fastlb.model.plan import Plan
from fastlb.model.proxied import ProxyProtocol

cdef enum:
    BACKENDS_CHUNKS = 64

# Between two wake-ups of the control plane, so that a busy engine is read in batches.
WAKE_EVERY_S = 0.05
# How often a client that is to be reset is looked at, whether it has what was sent before.
CUT_LOOK_S = 0.05
ACCEPT_RETRY_S = 0.1
# Who waits for room is woken when there is some; this is for a letter that found its box full.
ROOM_RETRY_S = 0.02
POLL_S = 0.005
BACKLOG = 4096
# FASTLB_IO_URING: how many events make a turn send in batches (see batch.pxd); 0 for never.
BATCH_VARIABLE = "FASTLB_IO_URING"
BATCH_EVENTS = {"auto": 4, "off": 0, "always": 1}
# Slots of removed addresses that are looked at before a new one is taken.
REUSE_LOOKS = 8
EVENT_KINDS = tuple(EventKind)
EJECT_RULES = list(EjectErrors)


def batch_events(choice: str) -> int:
    """Read FASTLB_IO_URING. Raises ConfigError."""
    if choice not in BATCH_EVENTS:
        raise ConfigError(BATCH_VARIABLE, choice, "one of " + ", ".join(BATCH_EVENTS))
    return BATCH_EVENTS[choice]


def io_uring_error() -> str:
    """Why this process gets no io_uring, empty if it does. Opens one for an instant."""
    cdef uring_t ring
    cdef int error = uring_open(&ring)
    uring_close(&ring)
    return os.strerror(error) if error else ""


cdef class NativeEngine:
    """See model.contract.Engine."""

    name = "native"

    cdef object config
    cdef settings_t settings
    cdef Balancer balancer
    cdef retry_budget_t retry_budget
    cdef worker_t** workers
    cdef uint32_t worker_count
    cdef backend_t** backends[BACKENDS_CHUNKS]
    cdef uint32_t backend_count
    cdef uint64_t clients_total
    cdef client_counts_t* client_counts
    cdef uint32_t retry_after_s
    cdef uint32_t log_armed
    cdef int log_fd
    cdef list threads
    cdef dict slots              # by address
    cdef list addresses          # by slot
    cdef dict removed            # slots of removed addresses; who was found in use stands last
    cdef list ends_posted        # by worker: letters in its mailbox up to the last LETTER_END
    cdef list lines_kept         # rendered before a label changed
    cdef list events_kept
    cdef list labels_text
    cdef list labels_json
    cdef object loop
    cdef object on_wake
    cdef object rearm

    def __cinit__(self, config):
        self.log_fd = -1
        self.workers = <worker_t**> calloc(config.workers, sizeof(worker_t*))
        if self.workers == NULL:
            raise MemoryError
        self.worker_count = config.workers

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.balancer = Balancer(config.seed)
        self.threads = []
        self.slots = {}
        self.addresses = []
        self.removed = {}
        self.ends_posted = [0] * config.workers
        self.lines_kept = []
        self.events_kept = []
        self.labels_text = []
        self.labels_json = []
        self.retry_after_s = 1
        self.fill_settings(config)

    def __dealloc__(self):
        cdef uint32_t i
        self.free_workers()
        free(self.workers)
        free(self.settings.trusted)
        free(self.client_counts)
        for i in range(self.backend_count):
            free(self.backends[i // BACKENDS_CHUNK][i % BACKENDS_CHUNK].sites)
            free(self.backends[i // BACKENDS_CHUNK][i % BACKENDS_CHUNK])
        for i in range(BACKENDS_CHUNKS):
            free(self.backends[i])

    cdef void free_workers(self):
        cdef uint32_t i
        for i in range(self.worker_count):
            if self.workers[i] != NULL:
                worker_free(self.workers[i])
                free(self.workers[i])
                self.workers[i] = NULL

    cdef fill_settings(self, config):
        cdef settings_t* s = &self.settings
        cdef bytes field
        timeouts = config.timeouts
        for timer_class, seconds in (
            (TIMER_CONNECT, timeouts.connect_s),
            (TIMER_HEADER, timeouts.header_s),
            (TIMER_FRESH, timeouts.idle_s),
            (TIMER_IDLE, timeouts.idle_s),
            (TIMER_KEEPALIVE, timeouts.keepalive_s),
            (TIMER_RESPONSE, timeouts.response_s or 0),
            (TIMER_TUNNEL, timeouts.tunnel_s),
            (TIMER_FIN, timeouts.fin_s),
            (TIMER_POOL, timeouts.upstream_idle_s),
            (TIMER_QUEUE, timeouts.queue_s),
            (TIMER_SEND, timeouts.send_s / SEND_LOOKS),
            (TIMER_LINGER, LAST_REQUEST_S),
            (TIMER_SILENCE, LINGER_SILENCE_S),
            (TIMER_CUT, CUT_LOOK_S),
            (TIMER_ACCEPT, ACCEPT_RETRY_S),
            (TIMER_ROOM, ROOM_RETRY_S),
        ):
            s.timeout_ns[<int> timer_class] = int(seconds * 1e9)
        s.linger_ns = int(LINGER_S * 1e9)
        s.header_bytes = config.limits.header_bytes
        s.line_bytes = config.limits.line_bytes
        s.fields = config.limits.fields
        names_fill(&s.names, config.fields)
        names_fill_head(&s.head_names, config.fields)
        s.body_bytes = config.limits.body_bytes
        s.request_buffer_bytes = config.limits.request_buffer_bytes
        s.buffer_bytes = config.limits.buffer_bytes // self.worker_count
        s.queue_depth = config.limits.queue_depth
        s.idle_max = IDLE_MAX
        s.connections_max = config.limits.connections
        s.client_connections_max = config.limits.client_connections
        if s.client_connections_max:
            self.client_counts = <client_counts_t*> malloc(sizeof(client_counts_t))
            if self.client_counts == NULL:
                raise MemoryError
            client_counts_init(self.client_counts, int.from_bytes(os.urandom(8), "little"))
        s.access_on = config.access_format is not None
        s.tries = config.limits.tries
        s.eject_errors = EJECT_RULES.index(config.eject_errors)
        for step in range(FILTER_STEPS):
            s.no_syn[<int> step].code, s.no_syn[<int> step].jt, s.no_syn[<int> step].jf, \
                s.no_syn[<int> step].k = NO_SYN_PROGRAM[step]
        s.workers = self.worker_count
        s.batch_events = batch_events(os.environ.get(BATCH_VARIABLE, "auto"))
        if config.via:
            field = f"Via: 1.0 {config.via}\r\n".encode()
            memcpy(s.via10, <const char*> field, len(field))
            memcpy(s.via11, <const char*> field, len(field))
            s.via11[7] = 49
            s.via_len = len(field)
        self.fill_trusted(config.trusted_proxies)

    cdef fill_trusted(self, proxies):
        cdef network_t* network
        cdef bytes octets
        cdef size_t count = len(proxies.networks)
        self.settings.trusted_unix = proxies.unix
        if count == 0:
            return
        network = self.settings.trusted = <network_t*> calloc(count, sizeof(network_t))
        if network == NULL:
            raise MemoryError
        self.settings.trusted_count = <uint32_t> count
        for given in proxies.networks:
            octets = given.network_address.packed
            network.family = AF_INET if given.version == 4 else AF_INET6
            network.prefix_bits = given.prefixlen
            memcpy(network.address, <const char*> octets, len(octets))
            network += 1

    # ---- life

    async def start(self, on_wake) -> None:
        """Start the worker threads. Raises StartError without memory, descriptors or threads."""
        self.loop = asyncio.get_running_loop()
        self.on_wake = on_wake
        try:
            self.make_workers()
            self.loop.add_reader(self.log_fd, self.woken)
            for index in range(self.worker_count):
                thread = threading.Thread(target=self.run, args=(index,), name=f"fastlb-worker-{index}")
                thread.start()
                self.threads.append(thread)
        except (StartError, RuntimeError) as error:
            await self.stop()
            self.free_workers()
            raise StartError(f"workers: {error}") from error

    cdef make_workers(self):
        cdef uint32_t i
        cdef worker_t* worker
        cdef bint made
        percent = self.config.limits.retry_percent
        retry_budget_init(&self.retry_budget, RETRY_UNLIMITED if percent is None else percent,
                          clock_ns(CLOCK_MONOTONIC) // 1_000_000)
        self.log_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self.log_armed = 1
        for i in range(self.worker_count):
            worker = <worker_t*> calloc(1, sizeof(worker_t))
            made = worker != NULL and worker_init(worker, i, &self.settings)
            self.workers[i] = worker
            if not made or self.log_fd < 0:
                raise StartError("not enough memory or descriptors")
            worker.balancer = &self.balancer.core
            worker.peers = self.workers
            worker.retry_budget = &self.retry_budget
            self.retry_budget.ledgers[i] = &worker.ledger
            worker.backends = self.backends
            worker.clients_total = &self.clients_total
            worker.client_counts = self.client_counts
            worker.retry_after_s = &self.retry_after_s
            worker.log_armed = &self.log_armed
            worker.log_fd = self.log_fd
            self.settings.wake_fds[i] = worker.wake_fd

    def run(self, index: int) -> None:
        """The body of one worker thread."""
        cdef worker_t* worker = self.workers[<int> index]
        with nogil:
            worker_run(worker)

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting and let open exchanges finish. True if all had ended in time."""
        deadline = self.loop.time() + timeout_s
        await self.post_all(LETTER_DEAF)
        await asyncio.sleep(min(HANDSHAKE_S, timeout_s))
        await self.post_all(LETTER_DRAIN)
        while self.listens() or counter_read(&self.clients_total):
            if self.loop.time() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    cdef bint listens(self):
        """True while a worker has not closed all its listeners yet."""
        cdef uint32_t i
        for i in range(len(self.threads)):
            if flag_read(&self.workers[i].listening):
                return True
        return False

    async def stop(self) -> None:
        """End at once. Idempotent."""
        await self.post_all(LETTER_STOP)
        while any(thread.is_alive() for thread in self.threads):
            await asyncio.sleep(POLL_S)
        for thread in self.threads:
            thread.join()
        for index in range(len(self.threads)):
            worker_close(self.workers[<int> index])
        self.threads = []
        if self.rearm is not None:
            self.rearm.cancel()
            self.rearm = None
        if self.log_fd >= 0:
            self.loop.remove_reader(self.log_fd)
            os.close(self.log_fd)
            self.log_fd = -1

    async def post_all(self, kind: int) -> None:
        """One letter to every worker; a full box is tried again."""
        cdef uint32_t letter = kind
        for index in range(len(self.threads)):
            while not mailbox_post(self.workers[<int> index], letter, 0, 0):
                await asyncio.sleep(POLL_S)

    # ---- what the data plane has to say

    def woken(self) -> None:
        """A worker wrote something and the control plane was asleep."""
        wake_seen(self.log_fd)
        self.on_wake()
        if self.rearm is None:
            self.rearm = self.loop.call_later(WAKE_EVERY_S, self.arm)

    def arm(self) -> None:
        """Sleep again, unless something came meanwhile."""
        self.rearm = None
        flag_write(&self.log_armed, 1)
        if self.something_waits():
            flag_write(&self.log_armed, 0)
            self.on_wake()
            self.rearm = self.loop.call_later(WAKE_EVERY_S, self.arm)

    cdef bint something_waits(self):
        cdef uint32_t i
        for i in range(self.worker_count):
            if ring_peek(&self.workers[i].access) != NULL:
                return True
            if ring_peek(&self.workers[i].events) != NULL:
                return True
        return False

    def take_events(self) -> list:
        """What happened since the last call, oldest first."""
        cdef uint32_t i
        cdef event_t* event
        found, self.events_kept = self.events_kept, []
        for i in range(self.worker_count):
            if self.workers[i] == NULL:
                continue
            event = <event_t*> ring_peek(&self.workers[i].events)
            while event != NULL:
                found.append(Event(EVENT_KINDS[event.kind], event.slot, event.error, event.in_a_row))
                ring_advance(&self.workers[i].events)
                event = <event_t*> ring_peek(&self.workers[i].events)
        return found

    def take_access(self) -> bytes:
        """Whole lines since the last call. Cost: one pass, no object for each field."""
        cdef uint32_t i
        cdef uint64_t offset_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC)
        cdef bint as_json = self.config.access_format is LogFormat.JSON
        kept, self.lines_kept = self.lines_kept, []
        return b"".join(kept + [
            access_lines(&self.workers[i].access, self.labels_json, self.labels_text, as_json, offset_ns)
            for i in range(self.worker_count) if self.workers[i] != NULL
        ])

    # ---- backends and plans

    def add_backend(
        self,
        address: Address,
        label: str,
        proxy_protocol: ProxyProtocol = ProxyProtocol.OFF,
        others: Sequence[Address] = (),
    ) -> int:
        """The slot of a backend with these addresses; the one it had if it is known."""
        cdef uint32_t slot
        cdef backend_t made
        cdef bytes host_line
        check_label(label)
        addresses = check_addresses(address, others)
        if addresses in self.slots:
            slot = self.slots[addresses]
            self.removed.pop(slot, None)
            self.backend(slot).known = True
            flag_write(&self.backend(slot).proxy_version, proxy_protocol.version)
            self.set_label(slot, label)
            return slot
        memset(&made, 0, sizeof(backend_t))
        host_line = f"Host: {address.authority}\r\n".encode()
        made.host_line_len = len(host_line)
        memcpy(made.host_line, <const char*> host_line, len(host_line))
        made.known = True
        made.proxy_version = proxy_protocol.version
        try:
            self.fill_sites(&made, addresses)
            made.slot = slot = self.free_slot(address)
        except BaseException:
            free(made.sites)
            raise
        free(self.backend(slot).sites)
        self.backend(slot)[0] = made
        self.slots[addresses] = slot
        self.addresses[slot] = addresses
        self.set_label(slot, label)
        return slot

    cdef uint32_t free_slot(self, address) except? 0:
        """One that a removed address had and nobody knows of any more, or else a new one."""
        cdef uint32_t slot
        cdef backend_t* backend
        full = self.backend_count == BACKENDS_MAX
        for found in list(islice(self.removed, None if full else REUSE_LOOKS)):
            del self.removed[found]
            if self.is_unused(found):
                self.disown(found)
                return found
            self.removed[found] = None
        if full:
            raise ConfigError("backend", str(address), f"one of at most {BACKENDS_MAX}")
        slot = self.backend_count
        if self.backends[slot // BACKENDS_CHUNK] == NULL:
            self.backends[slot // BACKENDS_CHUNK] = <backend_t**> calloc(BACKENDS_CHUNK, sizeof(backend_t*))
        if self.backends[slot // BACKENDS_CHUNK] == NULL:
            raise MemoryError
        backend = <backend_t*> calloc(1, sizeof(backend_t))
        if backend == NULL:
            raise MemoryError
        self.backends[slot // BACKENDS_CHUNK][slot % BACKENDS_CHUNK] = backend
        self.backend_count += 1
        self.addresses.append(None)
        self.labels_text.append(b"")
        self.labels_json.append(b"")
        return slot

    cdef bint is_unused(self, uint32_t slot):
        """True if no worker will think of the backend that had the slot again. Nothing new begins on it, as
        no plan names it: what is over stays over. A letter that ends its exchanges must have been read, or
        it would end those of the next owner."""
        cdef uint32_t i, posted
        for i in range(len(self.threads)):
            posted = self.ends_posted[i]
            if <int32_t> (flag_read(&self.workers[i].mailbox.obeyed) - posted) < 0:
                return False
        return balancer_forget(&self.balancer.core, slot) and counter_read(&self.backend(slot).open) == 0

    cdef disown(self, uint32_t slot):
        """What was said of the old address keeps its label, and what happened to it is nobody's now."""
        self.lines_kept.append(self.take_access())
        self.events_kept = [event for event in self.take_events() if event.slot != slot]
        del self.slots[self.addresses[slot]]

    cdef backend_t* backend(self, uint32_t slot) except NULL:
        if slot >= self.backend_count:
            raise ConfigError("plan.slot", slot, "that of a backend")
        return self.backends[slot // BACKENDS_CHUNK][slot % BACKENDS_CHUNK]

    cdef set_label(self, uint32_t slot, label):
        self.labels_text[slot] = label.encode()
        self.labels_json[slot] = orjson.dumps(label)

    cdef fill_sites(self, backend_t* backend, addresses):
        backend.sites = <site_t*> calloc(len(addresses), sizeof(site_t))
        if backend.sites == NULL:
            raise MemoryError
        for address in addresses:
            fill_site(&backend.sites[backend.site_count], address)
            backend.site_count += 1
            if not address.is_unix and may_meet_itself(address.host, address.port):
                backend.own_port = True

    def prefer_address(self, slot: int, site: int) -> None:
        """Begin the next connect to the backend of `slot` at its address number `site`."""
        if site >= self.backend(slot).site_count:
            raise ConfigError("site", site, "that of an address of the backend")
        flag_write(&self.backend(slot).preferred, site)

    def remove_backend(self, slot: int) -> None:
        """Forget it once its last exchange has ended; its idle connections close now."""
        if self.backend(slot).known:
            self.backend(slot).known = False
            self.removed[slot] = None
            self.purge()

    cdef purge(self):
        """Ask the workers to close idle connections to what is not in the plan. A full mailbox
        already holds a letter that leads to the same."""
        cdef uint32_t i
        for i in range(len(self.threads)):
            mailbox_post(self.workers[i], LETTER_PURGE, 0, 0)

    def end_exchanges(self, slot: int, who: str) -> None:
        """End what has a connection to the backend of `slot`."""
        cdef uint32_t i, letter = ord(who)
        for i in range(len(self.threads)):
            while not mailbox_post(self.workers[i], LETTER_END, slot, letter):
                nap()
            self.ends_posted[i] = self.workers[i].mailbox.tail

    def publish(self, plan: Plan) -> None:
        """Use `plan` from the next pick on, in every worker."""
        cdef int worker_id
        eligible = {entry.slot for entry in (*plan.entries, *plan.backups)}
        for slot in eligible:
            self.backend(slot)
        for entry in (*plan.entries, *plan.backups):
            flag_write(&self.backend(entry.slot).conns_max, entry.conns_max)
            flag_write(&self.backend(entry.slot).eligible, 1)
        flag_write(&self.retry_after_s, plan.retry_after_s)
        self.balancer.publish(plan)
        for slot in range(self.backend_count):
            if slot not in eligible:
                flag_write(&self.backend(slot).eligible, 0)
        self.purge()
        worker_id = balancer_grant(&self.balancer.core)
        while worker_id >= 0:
            wake(self.settings.wake_fds[worker_id])
            worker_id = balancer_grant(&self.balancer.core)

    def fade_failures(self, share: float) -> bool:
        """Let what failures have added to the loads of backends fade to `share` of it."""
        return self.balancer.fade(share)

    def open_listener(self, sock, mode: Mode, proxy_protocol: bool = False) -> None:
        """Accept from a listening socket in every worker: see accept_queues()."""
        cdef uint32_t role = ROLE_HTTP_CLIENT if mode is Mode.HTTP else ROLE_TCP_CLIENT
        if proxy_protocol:
            role |= LISTEN_PROXIED
        queues = accept_queues(sock, len(self.threads))
        for index in range(len(queues)):
            if not self.listen(index, queues[index], role):
                for fd in queues[index:]:
                    os.close(fd)
                raise StartError(f"listen: no memory to accept from {sock.getsockname()}")

    cdef bint listen(self, uint32_t index, int fd, uint32_t role):
        """Give a worker an accept queue, and wait until it has it."""
        cdef worker_t* worker = self.workers[index]
        cdef uint32_t refused = flag_read(&worker.listen_refused)
        thread = self.threads[index]
        while thread.is_alive() and not mailbox_post(worker, LETTER_LISTEN, fd, role):
            nap()
        while thread.is_alive() and flag_read(&worker.mailbox.obeyed) != worker.mailbox.tail:
            nap()
        return flag_read(&worker.mailbox.obeyed) == worker.mailbox.tail \
            and flag_read(&worker.listen_refused) == refused

    # ---- counters

    def ledger(self) -> Ledger:
        """The counters now, all workers together."""
        cdef uint32_t i
        cdef worker_t* worker
        cdef uint64_t accepted = 0, refused = 0, exchanges = 0, retries = 0, denied = 0
        cdef uint64_t bytes_in = 0, bytes_out = 0, dropped = 0, buffers = 0
        statuses = [0] * 6
        for i in range(self.worker_count):
            worker = self.workers[i]
            if worker == NULL:
                continue
            accepted += counter_read(&worker.ledger.clients_opened)
            refused += counter_read(&worker.ledger.clients_refused)
            exchanges += counter_read(&worker.ledger.exchanges)
            retries += counter_read(&worker.ledger.retries)
            denied += counter_read(&worker.ledger.retries_denied)
            bytes_in += counter_read(&worker.ledger.bytes_in)
            bytes_out += counter_read(&worker.ledger.bytes_out)
            dropped += counter_read(&worker.access.dropped)
            buffers += counter_read(&worker.buffer_bytes)
            for index in range(6):
                statuses[index] += counter_read(&worker.ledger.statuses[<int> index])
        return Ledger(
            clients=counter_read(&self.clients_total), queued=flag_read(&self.balancer.core.queue_len),
            accepted=accepted, clients_refused=refused,
            exchanges=exchanges, retries=retries, retries_denied=denied,
            bytes_in=bytes_in, bytes_out=bytes_out, buffer_bytes=buffers, access_dropped=dropped,
            statuses=tuple(statuses),
            backends=ReadCounts(self.counts),
        )

    def exchanges_on(self, slot: int) -> int:
        """Exchanges counted on a backend now; 0 for a slot never seen. O(1), without a lock."""
        return balancer_peek(&self.balancer.core, slot) if slot >= 0 else 0

    def counts(self) -> tuple:
        """The counters of every backend now."""
        return tuple([self.counts_of(slot) for slot in range(self.backend_count)])

    cdef counts_of(self, uint32_t slot):
        cdef backend_t* backend = self.backend(slot)
        return BackendCounts(
            slot, balancer_peek(&self.balancer.core, slot), counter_read(&backend.picked),
            counter_read(&backend.connects), counter_read(&backend.failures),
            counter_read(&backend.bytes_in), counter_read(&backend.bytes_out),
        )

    def verify(self) -> Verification:
        """Stop the workers for an instant and compare the counters with the live objects. A worker
        that has ended already, because stop() is under way, stands still for good."""
        self.balancer.verify()
        self.hold()
        try:
            return self.walk()
        finally:
            self.let_go()

    cdef hold(self):
        """Wait until every worker stands still."""
        cdef uint32_t i
        for i in range(len(self.threads)):
            while self.threads[i].is_alive() and not mailbox_post(self.workers[i], LETTER_PAUSE, 0, 0):
                nap()
        for i in range(len(self.threads)):
            while not flag_read(&self.workers[i].paused) and self.threads[i].is_alive():
                nap()

    cdef let_go(self):
        cdef uint32_t i
        for i in range(len(self.threads)):
            flag_write(&self.workers[i].resume, 1)
        for i in range(len(self.threads)):
            while flag_read(&self.workers[i].paused):
                nap()

    cdef walk(self):
        cdef uint32_t i, at
        cdef worker_t* worker
        cdef exchange_t* exchange
        cdef connection_t* conn
        cdef uint32_t exchanges = 0, connections = 0, listeners = 0, buffers = 0, pipes = 0
        walked = {}
        opened = dict.fromkeys(range(self.backend_count), 0)
        for i in range(self.worker_count):
            worker = self.workers[i]
            if worker == NULL:
                continue
            for slot in sent_slots(worker):
                opened[slot] += 1
            for at in range(worker.exchanges.chunk_count * SLAB_CHUNK):
                exchange = <exchange_t*> slab_at(&worker.exchanges, at)
                if exchange.client == NULL:
                    continue
                exchanges += 1
                buffers += (exchange.replay != NULL) + (exchange.request.trailers != NULL) \
                    + (exchange.response.trailers != NULL)
                pipes += (exchange.request.pipe_r >= 0) + (exchange.response.pipe_r >= 0)
                if exchange.flags & X_COUNTED:
                    slot = exchange.backend.slot
                    walked[slot] = walked.get(slot, 0) + 1
            for at in range(worker.connections.chunk_count * SLAB_CHUNK):
                conn = <connection_t*> slab_at(&worker.connections, at)
                listeners += conn.role == ROLE_LISTENER
                if conn.role == ROLE_UPSTREAM:
                    opened[conn.backend.slot] += 1
                if conn.role != ROLE_FREE and conn.role != ROLE_LISTENER:
                    connections += 1
                    buffers += (conn.inbox != NULL) + (conn.outbox != NULL)
        for slot in self.granted_slots():
            walked[slot] = walked.get(slot, 0) + 1
        counted = {}
        for slot, connected in opened.items():
            if counter_read(&self.backend(slot).open) != connected:
                raise AssertionError(f"slot {slot} has {connected} connections, and counts others")
        for slot in range(self.backend_count):
            in_flight = balancer_in_flight(&self.balancer.core, slot)
            if in_flight:
                counted[slot] = in_flight
        return Verification(
            counted=counted, walked=walked, exchanges=exchanges, connections=connections,
            taken=self.taken(),
            found=Holdings(connections=connections + listeners, exchanges=exchanges, buffers=buffers,
                           pipes=pipes),
        )

    cdef taken(self):
        """What the workers' slabs and pools have given out."""
        cdef uint32_t i, size_class
        cdef worker_t* worker
        cdef uint32_t connections = 0, exchanges = 0, buffers = 0, pipes = 0
        for i in range(self.worker_count):
            worker = self.workers[i]
            if worker == NULL:
                continue
            connections += worker.connections.live
            exchanges += worker.exchanges.live
            buffers += worker.buffers_made
            for size_class in range(BUFFER_CLASSES):
                buffers -= worker.buffer_count[size_class]
            pipes += worker.pipes_made - worker.pipe_count
        return Holdings(connections=connections, exchanges=exchanges, buffers=buffers, pipes=pipes)

    cdef list granted_slots(self):
        """Units that the queue has given out and their exchanges have not picked up yet."""
        cdef uint32_t i
        found = []
        for i in range(self.worker_count):
            waiter = self.balancer.core.granted[i]
            while waiter != NULL:
                found.append(waiter.slot)
                waiter = waiter.next
        return found


cdef list sent_slots(worker_t* worker):
    """The backends of idle connections that are on their way to this worker."""
    cdef mailbox_t* box = &worker.mailbox
    cdef letter_t* letter
    found = []
    for at in range(box.head, box.tail):
        letter = &box.letters[<uint32_t> at % MAILBOX_LETTERS]
        if letter.kind == LETTER_TAKE:
            found.append(letter.role)
    return found


cdef fill_site(site_t* site, address):
    cdef sockaddr_in* v4 = <sockaddr_in*> &site.address
    cdef sockaddr_in6* v6 = <sockaddr_in6*> &site.address
    cdef sockaddr_un* local = <sockaddr_un*> &site.address
    cdef bytes text
    family, name = socket_address(address)
    site.address.ss_family = family
    if family == AF_UNIX:
        text = os.fsencode(name)
        site.len = sizeof(sockaddr_un)
        memcpy(local.sun_path, <const char*> text, len(text))
        return
    text = name[0].encode()
    if family == AF_INET:
        site.len = sizeof(sockaddr_in)
        v4.sin_port = htons(name[1])
        inet_pton(AF_INET, text, &v4.sin_addr)
    else:
        site.len = sizeof(sockaddr_in6)
        v6.sin6_port = htons(name[1])
        v6.sin6_scope_id = name[3]
        inet_pton(AF_INET6, text, &v6.sin6_addr)


def accept_queues(sock, count: int) -> list[int]:
    """Descriptors of `count` accept queues for the address of `sock`, the first with what it holds.

    With SO_REUSEPORT on `sock`: one socket for each worker, because one shared queue goes to
    whichever worker sleeps: with two workers and 64 keep-alive clients, one of them had all 64.
    Without it, as for every UNIX socket, they share one queue.
    """
    shared = sock.family == socket.AF_UNIX or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    queues = []
    try:
        for number in range(count):
            queues.append(os.dup(sock.fileno()) if shared or number == 0 else another_queue(sock))
    except OSError as error:
        for fd in queues:
            os.close(fd)
        place = sock.getsockname()
        raise StartError(f"listen: no accept queue for {place}: {error.strerror}") from error
    return queues


def another_queue(sock) -> int:
    """A socket like `sock` that shares its address. Raises OSError."""
    with socket.socket(sock.family, sock.type) as other:
        other.setblocking(False)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        other.bind(sock.getsockname())
        other.listen(BACKLOG)
        return other.detach()


cdef void nap() noexcept:
    """Let the workers run: they need a core, not the GIL."""
    with nogil:
        usleep(50)


cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int us)
