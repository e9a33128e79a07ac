"""The access log: written by a thread that nothing can make block the event loop."""

import asyncio
import contextlib
import os
import socket
import threading
import time

import pytest

from fastlb.control.access_log import BACKLOG_MAX_BYTES, AccessLog
from fastlb.model.errors import StartError
from support.waiting import wait_until


def reports(log: AccessLog) -> list[str]:
    """What the log has to say."""
    return [report.text for report in log.take_reports()]


def close(log: AccessLog) -> None:
    """Close it as the supervisor does."""
    asyncio.run(log.close())
    assert not log._thread.is_alive()


def test_lines_are_appended_in_order(tmp_path):
    """A restart must not lose what was there."""
    path = tmp_path / "access.log"
    path.write_bytes(b"old\n")
    log = AccessLog(str(path))
    for number in range(1000):
        log.write(b"line %d\n" % number)
    close(log)

    assert path.read_bytes() == b"old\n" + b"".join(b"line %d\n" % number for number in range(1000))
    assert reports(log) == []


def test_reopen_goes_on_in_a_new_file_and_loses_nothing(tmp_path):
    """logrotate moves the file and sends SIGUSR1."""
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path))
    log.write(b"before\n")
    wait_until(lambda: path.read_bytes() == b"before\n")
    path.rename(rotated)
    log.reopen()
    wait_until(path.exists)
    log.write(b"after\n")
    close(log)

    assert (rotated.read_bytes(), path.read_bytes()) == (b"before\n", b"after\n")
    assert reports(log) == [f"reopened {path}"]


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_standard_output_that_is_a_socket_is_written(path):
    """systemd and some container engines give one, which cannot be opened by its path (ENXIO)."""
    ours, theirs = socket.socketpair()
    stdout = os.dup(1)
    try:
        os.dup2(theirs.fileno(), 1)
        log = AccessLog(path)
        log.write(b"line\n")
        log.reopen()
        close(log)
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
    theirs.close()

    with ours:
        assert ours.recv(100) == b"line\n"
    assert reports(log) == []


def test_socket_in_the_file_system_is_named(tmp_path):
    """It is no FIFO without a reader."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        with pytest.raises(StartError, match="this is a socket; give a file"):
            AccessLog(str(path))


def test_a_reopen_that_fails_goes_on_in_the_old_file(tmp_path):
    """Lines in the wrong file are better than none."""
    path = tmp_path / "d" / "access.log"
    path.parent.mkdir()
    log = AccessLog(str(path))
    path.parent.rename(tmp_path / "moved")
    log.reopen()
    log.write(b"still here\n")
    close(log)

    assert (tmp_path / "moved" / "access.log").read_bytes() == b"still here\n"
    (report,) = reports(log)
    assert "still writing to the old file" in report
    assert "no such file or directory" in report


def test_a_full_disk_is_said_once_and_the_lines_are_counted():
    """/dev/full answers every write with ENOSPC; traffic goes on."""
    log = AccessLog("/dev/full")
    for _ in range(10):
        log.write(b"one\ntwo\n")
        wait_until(lambda: not log._backlog_bytes)
    close(log)

    assert reports(log) == [
        "lines are dropped, /dev/full cannot be written: No space left on device",
        "20 lines were lost before the end",
    ]


def test_a_trouble_that_lasts_is_said_again_with_what_is_lost(monkeypatch):
    """Whoever looks an hour later must see that it is not over."""
    log = AccessLog("/dev/full")
    log.write(b"one\ntwo\n")
    wait_until(lambda: log._dropped)
    assert len(reports(log)) == 1
    monkeypatch.setattr("fastlb.control.access_log._REMIND_S", 0.0)

    assert reports(log) == ["2 lines are lost so far: No space left on device"]
    close(log)


def test_recovery_is_said_with_what_was_lost(tmp_path, monkeypatch):
    """The disk has been cleaned up: whoever reads the log must know about the gap."""
    monkeypatch.setattr("fastlb.control.access_log._QUIET_S", 0.0)
    path = tmp_path / "access.log"
    path.symlink_to("/dev/full")
    log = AccessLog(str(path))
    log.write(b"one\ntwo\n")
    wait_until(lambda: log._dropped)
    path.unlink()
    log.reopen()
    wait_until(path.exists)
    log.write(b"three\n")
    close(log)

    assert path.read_bytes() == b"three\n"
    assert reports(log)[1:] == [f"reopened {path}", f"{path} is written again, 2 lines were lost"]


def test_a_reader_that_is_too_slow_is_not_called_recovered_after_each_gap(tmp_path):
    """It makes room and is overrun again many times a second; that is one trouble, not many."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    batch = b"x" * (BACKLOG_MAX_BYTES // 4 - 1) + b"\n"
    try:
        for _ in range(3):
            while not log._dropped or log._backlog_bytes > BACKLOG_MAX_BYTES // 2:
                if not log._dropped:
                    log.write(batch)
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 1 << 20)
            dropped = log._dropped
            while log._dropped == dropped:
                log.write(batch)
        assert len(reports(log)) == 1
    finally:
        os.close(reader)
        close(log)


def test_a_blocked_pipe_blocks_nobody_and_memory_stays_bounded(tmp_path):
    """A reader that hangs: write() returns at once, what does not fit is dropped and counted."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    batch = (b"x" * 99 + b"\n") * 1000
    slowest_s = 0.0
    try:
        for _ in range(100):
            started = time.perf_counter()
            log.write(batch)
            slowest_s = max(slowest_s, time.perf_counter() - started)
        assert log._backlog_bytes <= BACKLOG_MAX_BYTES
        assert log._dropped >= 50_000
        assert slowest_s < 0.5
        assert any("not read fast enough" in report for report in reports(log))
        received = b""
        while log._backlog_bytes:
            try:
                received += os.read(reader, 1 << 20)
            except BlockingIOError:
                time.sleep(0.001)
        log.write(b"again\n")
        close(log)
    finally:
        os.close(reader)
    lines = received.split(b"\n")[:-1]

    assert all(len(line) == 99 for line in lines), "a line was torn"


def test_a_pipe_that_stays_blocked_does_not_hold_up_the_end(tmp_path):
    """SIGTERM must end the process, whatever hangs behind the log."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    log.write(b"x" * 1_000_000 + b"\n")
    started = time.monotonic()
    close(log)
    took_s = time.monotonic() - started
    os.close(reader)

    assert took_s < 2
    assert any("still blocked at the end" in report for report in reports(log))


def test_a_reader_that_ends_is_a_trouble_and_not_a_crash(tmp_path):
    """EPIPE, which Python turns into an error instead of a signal."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    os.close(reader)
    log.write(b"x\n")
    wait_until(lambda: log._dropped)
    close(log)

    assert "Broken pipe" in reports(log)[0]


@pytest.mark.parametrize(
    ("where", "words"),
    [("no/such/dir/x", "no such file or directory"), (".", "is a directory"), ("fifo", "FIFO")],
)
def test_a_path_that_cannot_be_opened_is_refused_at_start(tmp_path, where, words):
    """Better now, with the flag's name, than at the first line."""
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(StartError, match=f"--access-log .*{words}"):
        AccessLog(str(tmp_path / where))


def test_nothing_is_left_open(tmp_path):
    """Neither a descriptor nor a thread."""
    before = len(os.listdir("/proc/self/fd"))
    close(AccessLog(str(tmp_path / "x")))

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_that_another_writer_has_filled_meanwhile_is_tried_again(tmp_path, monkeypatch):
    """poll() said that there is room, and write() that there is none."""
    real, refusals = os.write, [BlockingIOError(), BlockingIOError()]

    def write(fd, data):
        if refusals and data == b"line\n":
            raise refusals.pop()
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    log = AccessLog(str(tmp_path / "access.log"))
    log.write(b"line\n")
    close(log)

    assert (tmp_path / "access.log").read_bytes() == b"line\n"
    assert (refusals, reports(log)) == ([], [])


def test_a_disk_that_hangs_does_not_hang_the_stop(tmp_path, monkeypatch):
    """No system call ends a write that is stuck in the kernel: its thread is left behind."""
    real, stuck, free = os.write, threading.Event(), threading.Event()

    def write(fd, data):
        if data == b"line\n":
            stuck.set()
            assert free.wait(10)
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr("fastlb.control.access_log._CLOSE_GIVE_UP_S", 0.05)
    log = AccessLog(str(tmp_path / "access.log"))
    log.write(b"line\n")
    assert stuck.wait(10)
    asyncio.run(log.close())
    left_behind = log._thread.is_alive()
    free.set()
    log._thread.join(10)

    assert left_behind
