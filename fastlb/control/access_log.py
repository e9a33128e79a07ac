"""The access log: whole lines from the engine to a file, a pipe or standard output.

A thread writes, so that neither a slow disk nor a blocked pipe stops the event loop. What it
cannot write is dropped and counted; that is said when it begins, once a minute while it lasts, and
when it is over.
"""

import asyncio
import errno
import os
import re
import select
import stat
import threading
import time
from collections import deque
from typing import NamedTuple

from fastlb.model.errors import StartError

BACKLOG_MAX_BYTES = 4 * 1024 * 1024
_CLOSE_WAIT_S = 1.0
# A write to a disk that hangs cannot be ended from outside; the daemon thread is left behind then.
_CLOSE_GIVE_UP_S = 2.0
_CLOSE_LOOK_S = 0.002
# So long without a loss before it is called over: a slow reader makes room again and again.
_QUIET_S = 1.0
_REMIND_S = 60.0
_POLL_MS = 50
_STANDARD = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
_OWN_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")


class Report(NamedTuple):
    """Something the operational log should say; `trouble`: lines are lost or misplaced."""

    text: str
    trouble: bool = True


class AccessLog:
    """An open access log and its thread."""

    def __init__(self, path: str) -> None:
        """Open `path` for appending; `-` is standard output, and so is /dev/stdout. Raises: StartError."""
        self._path = path
        try:
            self._fd = _open(path)
        except OSError as error:
            raise StartError(_refusal(path, error)) from error
        # Guards everything below; held for moments only, never while writing.
        self._changed = threading.Condition()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._dropped = 0
        self._dropped_s = 0.0  # when last
        self._trouble: str | None = None
        self._reminded_s = 0.0
        self._reports: list[Report] = []
        self._reopen_asked = False
        self._closing = False
        # Belongs to the thread: the last byte written was not the end of a line.
        self._torn = False
        self._thread = threading.Thread(target=self._run, name="fastlb-access-log", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Hand over whole lines; returns at once. Drops them if too much is waiting."""
        if not lines:
            return
        with self._changed:
            if self._backlog_bytes + len(lines) > BACKLOG_MAX_BYTES:
                self._drop(lines, "it is not read fast enough")
                return
            self._backlog.append(lines)
            self._backlog_bytes += len(lines)
            self._changed.notify()

    def reopen(self) -> None:
        """Open the path anew, for log rotation; a descriptor of this process stays as it is."""
        with self._changed:
            self._reopen_asked = True
            self._changed.notify()

    def take_reports(self) -> list[Report]:
        """What went wrong or right again since the last call, for the operational log."""
        with self._changed:
            if self._trouble is not None and time.monotonic() - self._reminded_s >= _REMIND_S:
                self._reminded_s = time.monotonic()
                self._say(f"{self._dropped} lines are lost so far: {self._trouble}")
            reports, self._reports = self._reports, []
        return reports

    async def close(self) -> None:
        """Write what is waiting, for at most a second, and end the thread. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for _ in range(int(_CLOSE_GIVE_UP_S / _CLOSE_LOOK_S)):
            if not self._thread.is_alive():
                return
            await asyncio.sleep(_CLOSE_LOOK_S)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._backlog or self._reopen_asked or self._closing)
                    batch = b"".join(self._backlog)
                    self._backlog.clear()
                    reopen, self._reopen_asked = self._reopen_asked, False
                    closing = self._closing
                self._write_batch(batch)
                with self._changed:
                    self._backlog_bytes -= len(batch)
                if reopen:
                    self._open_again()
                if closing and not self._backlog:
                    return
        finally:
            os.close(self._fd)
            if self._dropped:
                self._say(f"{self._dropped} lines were lost before the end")

    def _write_batch(self, batch: bytes) -> None:
        if self._torn and batch:
            batch = b"\n" + batch
        view = memoryview(batch)
        while view:
            written, fault = self._write_some(view)
            if fault:
                with self._changed:
                    self._drop(bytes(view), fault)
                return
            self._torn = view[written - 1] != ord("\n")
            view = view[written:]
        if batch:
            self._recovered()

    def _write_some(self, view: memoryview) -> tuple[int, str]:
        """How much was written; or why nothing more can be."""
        waited_ms = 0
        while True:
            try:
                if _accepts(self._fd, _POLL_MS):
                    return os.write(self._fd, view[: _write_max_bytes(self._fd)]), ""
            except BlockingIOError:
                pass
            except OSError as error:
                return 0, os.strerror(error.errno or 0)
            waited_ms += _POLL_MS
            if self._closing and waited_ms >= _CLOSE_WAIT_S * 1000:
                return 0, "it was still blocked at the end"

    def _open_again(self) -> None:
        if _own_descriptor(self._path) is not None:
            return
        try:
            fresh_fd = _open(self._path)
        except OSError as error:
            with self._changed:
                self._say(f"still writing to the old file: {_refusal(self._path, error)}")
            return
        self._fd, old_fd = fresh_fd, self._fd
        os.close(old_fd)
        self._torn = False
        with self._changed:
            self._say(f"reopened {self._path}", trouble=False)

    def _drop(self, lines: bytes, why: str) -> None:
        self._dropped += max(1, lines.count(b"\n"))
        self._dropped_s = time.monotonic()
        if self._trouble is None:
            self._trouble = why
            self._reminded_s = self._dropped_s
            self._say(f"lines are dropped, {self._path} cannot be written: {why}")

    def _say(self, text: str, *, trouble: bool = True) -> None:
        self._reports.append(Report(text, trouble))

    def _recovered(self) -> None:
        with self._changed:
            if self._trouble is not None and time.monotonic() - self._dropped_s >= _QUIET_S:
                self._say(f"{self._path} is written again, {self._dropped} lines were lost", trouble=False)
                self._trouble = None
                self._dropped = 0


def _own_descriptor(path: str) -> int | None:
    """Which descriptor of this process is meant; None for any other path.

    Such a path cannot always be opened: behind it may be a socket, as under systemd and in containers.
    """
    if path in _STANDARD:
        return _STANDARD[path]
    match = _OWN_DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else None


def _open(path: str) -> int:
    own_fd = _own_descriptor(path)
    if own_fd is not None:
        return os.dup(own_fd)
    # O_NONBLOCK: a FIFO without a reader is refused (ENXIO) instead of waited for.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, 0o644)


def _refusal(path: str, error: OSError) -> str:
    if error.errno == errno.ENXIO and stat.S_ISSOCK(os.stat(path).st_mode):
        return f"--access-log {path}: this is a socket; give a file, a FIFO or - for standard output"
    if error.errno == errno.ENXIO:
        return f"--access-log {path}: nobody reads this FIFO; start its reader first"
    return f"--access-log {path}: {os.strerror(error.errno or 0).lower()}; give a file that can be written"


def _accepts(fd: int, wait_ms: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    # POLLERR counts as ready: the write then says what is wrong.
    return bool(poll.poll(wait_ms))


def _write_max_bytes(fd: int) -> int:
    # Standard output is shared with others and must not be made non-blocking. A pipe that poll(2)
    # calls writable takes PIPE_BUF bytes without blocking (pipe(7)); a regular file takes it all.
    return BACKLOG_MAX_BYTES if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
