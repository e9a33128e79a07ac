"""One test run again in a network of its own, whose rules it may change without being root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONE_PORT = 40_000
_MARK = "FASTLB_OWN_NETWORK"
_TESTS = Path(__file__).parents[1]
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
# A user namespace lends the right to bring up the loopback interface (user_namespaces(7)).
_ENTER = ("unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def is_own() -> bool:
    """True in a test that `run_again` has started."""
    return _MARK in os.environ


def run_again(node_id: str, engine: str) -> str:
    """Run one test of one engine in a network of its own; skip where namespaces are not to be had.

    Returns: what it printed.
    """
    try:
        subprocess.run([*_ENTER, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespace: {error}")
    pytest_command = (sys.executable, "-m", "pytest", "-qrP", "-p", "no:cacheprovider", "--engine", engine)
    done = subprocess.run(
        [*_ENTER, *pytest_command, node_id],
        cwd=_TESTS.parent,
        env={**os.environ, _MARK: "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def keep_ports(first: int, count: int) -> None:
    """From now on connect() finds only these local ports, towards each address it connects to."""
    _PORTS.write_text(f"{first} {first + count - 1}")


def keep_one_port() -> None:
    """From now on connect() finds no other local port than one, for each address it connects to."""
    keep_ports(ONE_PORT, 1)
