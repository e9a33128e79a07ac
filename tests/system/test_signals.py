"""Signals reach fastlb from its first instant on, and none of them ends it without a drain."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from support.backend import OK, Backend, answering
from support.serving import Program
from support.waiting import PATIENCE_S, wait_until

# A module finder that sends this process a signal when it begins to import `click`, which is what the
# command line imports first of all that is not small.
_EARLY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "click" and (number := os.environ.pop("EARLY_SIGNAL", "")):
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Finder())
"""
DRAINING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
STAYING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture
def page():
    """A backend that answers at once."""
    backend = Backend(answering(OK))
    yield backend
    backend.close()


@pytest.fixture
def command(engine, page, tmp_path, monkeypatch):
    """The words of a fastlb that is sent a signal while it imports."""

    def make(early: signal.Signals) -> list[str]:
        (tmp_path / "sitecustomize.py").write_text(_EARLY)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("EARLY_SIGNAL", str(int(early)))
        flags = f"--listen 127.0.0.1:0 --backend {page.address} --no-check --engine {engine.name}"
        return [sys.executable, "-m", "fastlb", *flags.split()]

    return make


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=lambda n: n.name)
def test_request_to_stop_while_importing_is_a_stop(command, number):
    """A service manager that changes its mind within 0.2 s must not see a killed process."""
    words = command(number)

    ended = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "stopped" in ended.stderr


@pytest.mark.parametrize("number", STAYING, ids=lambda n: n.name)
def test_other_signals_while_importing_do_not_end_it(command, number):
    """logrotate and its like send signals without asking how old the process is."""
    words = command(number)
    program = Program(words)
    try:
        wait_until(
            lambda: program.wait_alive("it started") or "started" in "".join(program.said), "it started"
        )
    finally:
        assert program.end() == 0


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="needs root and unshare")
def test_first_process_of_a_container_stops_when_asked_early(command):
    """As process 1 a signal without a handler is thrown away by the kernel, not obeyed."""
    words = command(signal.SIGTERM)
    words = ["unshare", "--pid", "--fork", "--kill-child", *words]

    ended = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "stopped" in ended.stderr


@pytest.mark.parametrize("number", DRAINING, ids=lambda n: n.name)
def test_request_to_stop_is_a_drain(fastlb, page, number):
    """SIGQUIT is what some service managers send for a graceful stop."""
    running = fastlb(page.address.port)

    assert running.end(number) == 0
    assert [line["signal"] for line in running.logged("stopping, open exchanges may finish")] == [number.name]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1], ids=lambda n: n.name)
def test_log_is_opened_anew(fastlb, page, tmp_path, number):
    """SIGHUP is what everybody tries first; it must not end the service."""
    log = tmp_path / "access.log"
    running = fastlb(page.address.port, flags=("--access-log", str(log)))
    log.rename(tmp_path / "old.log")

    running.process.send_signal(number)

    wait_until(log.exists, "the new log")


def test_signal_of_an_upgrade_is_refused_in_the_log(fastlb, page):
    """SIGUSR2 replaces the binary elsewhere; who sends it learns that it does not here."""
    running = fastlb(page.address.port)

    running.process.send_signal(signal.SIGUSR2)

    running.wait_logged("SIGUSR2 does nothing: this version cannot be replaced while it runs")
