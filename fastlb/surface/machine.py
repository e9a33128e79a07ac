"""Facts about the machine and the installation, read and not judged; doctor.py judges them."""

import contextlib
import importlib
import importlib.metadata
import os
import platform
import re
import resource
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from fastlb.engine import load
from fastlb.model.config import EngineChoice
from fastlb.surface.cpus import usable_cpus

LIBRARIES = ("uvloop", "httptools", "orjson", "h11", "click", "rich")
_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
# Cython gives its function type a module of its own, named after the version that compiled it.
_CYTHON_ABI = re.compile(r"_cython_(\d+)_(\d+)_(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was found. An empty text or None means: not there."""

    engine: str
    engine_reason: str
    engine_error: str
    python: str
    implementation: str
    system: str
    kernel: str
    gil_enabled: bool
    free_threaded_build: bool
    cython_built_with: str
    cython_installed: str
    libraries: dict[str, str]
    loop: str
    splice_error: str
    io_uring_error: str
    files_soft: int
    files_hard: int
    accept_queue: int | None
    cpus: int


def look() -> Machine:
    """Read everything. Imports the engine and opens a pipe and two sockets for an instant."""
    engine, reason, error = _engine()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_gil_enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    return Machine(
        engine=engine,
        engine_reason=reason,
        engine_error=error,
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        system=platform.system(),
        kernel=platform.release(),
        gil_enabled=is_gil_enabled(),
        free_threaded_build=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        cython_built_with=_cython_built_with() if engine == "native" else "",
        cython_installed=_version("cython"),
        libraries={name: _version(name) if _imports(name) else "" for name in LIBRARIES},
        loop="uvloop" if _imports("uvloop") else "asyncio",
        splice_error=try_splice(),
        io_uring_error=_io_uring_error() if engine == "native" else "",
        files_soft=soft,
        files_hard=hard,
        accept_queue=_accept_queue(),
        cpus=usable_cpus(),
    )


def _engine() -> tuple[str, str, str]:
    """Name, why, and what went wrong."""
    try:
        loaded = load(EngineChoice.AUTO)
    except ImportError as error:
        return "", "", str(error)
    return loaded.name, loaded.reason, ""


def _cython_built_with() -> str:
    module = importlib.import_module("fastlb.native.parsing")
    for value in vars(module).values():
        if match := _CYTHON_ABI.match(type(value).__module__):
            return ".".join(match.groups())
    return ""


def _io_uring_error() -> str:
    error = importlib.import_module("fastlb.native.engine").io_uring_error()
    assert isinstance(error, str)
    return error


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def try_splice() -> str:
    """Move one byte from a socket into a pipe with splice(2). Returns: what failed, or nothing."""
    if not hasattr(os, "splice"):
        return "this Python has no os.splice"
    with contextlib.ExitStack() as stack:
        near, far = (stack.enter_context(end) for end in socket.socketpair())
        pipe_r, pipe_w = os.pipe()
        stack.callback(os.close, pipe_r)
        stack.callback(os.close, pipe_w)
        near.send(b"x")
        try:
            os.splice(far.fileno(), pipe_w, 1)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _accept_queue() -> int | None:
    try:
        return int(_SOMAXCONN.read_text())
    except (OSError, ValueError):
        return None
