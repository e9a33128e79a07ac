"""`fastlb doctor`: what this machine offers, and what to do about what is not ideal."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from resource import RLIM_INFINITY

from rich.console import Console
from rich.markup import escape

from fastlb import __version__
from fastlb.control.descriptors import connection_limit
from fastlb.model.errors import StartError
from fastlb.surface.machine import LIBRARIES, Machine, look

# EPOLLEXCLUSIVE, which spreads accepts over workers, is in Linux 4.5 and later.
_KERNEL_MIN = (4, 5)
# The queue that the listeners ask for; the kernel cuts it to net.core.somaxconn.
_ACCEPT_QUEUE_WANTED = 4096
# What is wanted: room for some 10,000 clients, each with a connection to a backend.
_FILES_WANTED = 20_000
_OPTIONAL = {
    "uvloop": "the control plane runs on asyncio instead",
    "httptools": "health checks are read with h11 instead",
    "orjson": "log lines are made with json instead",
}


class Grade(str, Enum):
    """OK: ideal. NOTE: works, and could be better. BAD: fastlb cannot run like this."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


_COLOURS = {Grade.OK: "green", Grade.NOTE: "yellow", Grade.BAD: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what it is about, what was found, and what to do if that is not ideal."""

    topic: str
    found: str
    grade: Grade = Grade.OK
    advice: str = ""


def run_doctor() -> int:
    """Print one line for each finding. Returns: 0 if fastlb can run here, else 1."""
    findings = list(judge(look()))
    console = Console(highlight=False)
    for finding in findings:
        mark = f"[{_COLOURS[finding.grade]}]{finding.grade.value:4}[/]"
        line = f"{mark} {finding.topic:<14} {escape(finding.found)}"
        if finding.advice:
            line += f" -- {escape(finding.advice)}"
        console.print(line, soft_wrap=True)
    return int(any(finding.grade is Grade.BAD for finding in findings))


def judge(machine: Machine) -> Iterator[Finding]:
    """Grade every fact. Pure."""
    yield Finding("fastlb", __version__)
    yield _engine(machine)
    yield _python(machine)
    yield _cython(machine)
    for name in LIBRARIES:
        yield _library(name, machine.libraries[name])
    yield _loop(machine)
    yield _gil(machine)
    yield _kernel(machine)
    yield _splice(machine)
    yield _io_uring(machine)
    yield _files(machine)
    yield _accept_queue(machine)
    yield Finding("cpus", f"{machine.cpus}: --workers auto starts as many threads")


def _engine(machine: Machine) -> Finding:
    if machine.engine_error:
        return Finding(
            "engine",
            f"does not import: {machine.engine_error}",
            Grade.BAD,
            "reinstall fastlb for this Python: pip install --force-reinstall fastlb",
        )
    found = f"{machine.engine}: {machine.engine_reason}"
    if machine.engine == "native":
        return Finding("engine", found)
    advice = "for the native one use Linux and a wheel for this Python, or build it with a C compiler"
    return Finding("engine", found, Grade.NOTE, advice)


def _python(machine: Machine) -> Finding:
    found = f"{machine.implementation} {machine.python}"
    if machine.implementation == "CPython":
        return Finding("python", found)
    return Finding("python", found, Grade.NOTE, "the native engine needs CPython")


def _cython(machine: Machine) -> Finding:
    built = machine.cython_built_with
    installed = machine.cython_installed or "not installed"
    if built:
        return Finding(
            "cython", f"native engine compiled with {built} (here: {installed}, needed only to build)"
        )
    if machine.engine == "native":
        return Finding("cython", f"{installed}, needed only to build")
    return Finding("cython", f"{installed}: nothing here is compiled")


def _library(name: str, version: str) -> Finding:
    if version:
        return Finding(name, version)
    if name in _OPTIONAL:
        return Finding(name, f"missing: {_OPTIONAL[name]}", Grade.NOTE, f"pip install {name}")
    return Finding(name, "missing", Grade.BAD, f"pip install {name}")


def _loop(machine: Machine) -> Finding:
    if machine.loop == "uvloop":
        return Finding("event loop", "uvloop")
    return Finding(
        "event loop", machine.loop, Grade.NOTE, "pip install uvloop: the pure engine is faster on it"
    )


def _gil(machine: Machine) -> Finding:
    if not machine.free_threaded_build:
        return Finding("gil", "on: the workers of the native engine run without it")
    if machine.gil_enabled:
        advice = "a library switched it on, or PYTHON_GIL=1: the native engine does not mind"
        return Finding("gil", "on, in a free-threaded Python", Grade.NOTE, advice)
    return Finding("gil", "off: free-threaded Python")


def _kernel(machine: Machine) -> Finding:
    found = f"{machine.system} {machine.kernel}"
    if machine.system != "Linux":
        return Finding("kernel", found, Grade.NOTE, "the native engine needs Linux")
    if kernel_version(machine.kernel) < _KERNEL_MIN:
        return Finding(
            "kernel", found, Grade.NOTE, "4.5 or later spreads new connections evenly over workers"
        )
    return Finding("kernel", found)


def kernel_version(release: str) -> tuple[int, int]:
    """The first two numbers of `uname -r`; zeros if it does not start with them."""
    numbers = release.split(".")[:2]
    if len(numbers) == 2 and all(number.isdigit() for number in numbers):
        return int(numbers[0]), int(numbers[1])
    return 0, 0


def _splice(machine: Machine) -> Finding:
    if not machine.splice_error:
        return Finding("splice", "works: large bodies never enter this process")
    advice = "allow the system call in the sandbox; until then large bodies are copied"
    return Finding("splice", machine.splice_error, Grade.NOTE, advice)


def _io_uring(machine: Machine) -> Finding:
    if machine.engine == "pure":
        return Finding("io_uring", "not used by the pure engine")
    if not machine.io_uring_error:
        return Finding("io_uring", "works: under load many small sends are one system call")
    advice = "allow it in the sandbox, or sysctl -w kernel.io_uring_disabled=0; else each send is a call"
    return Finding("io_uring", machine.io_uring_error, Grade.NOTE, advice)


def _files(machine: Machine) -> Finding:
    hard = machine.files_hard
    advice = f"ulimit -Hn {_FILES_WANTED}, LimitNOFILE= in systemd, or docker run --ulimit nofile="
    try:
        clients = connection_limit(hard, machine.cpus)
    except StartError as error:
        return Finding("open files", str(error), Grade.BAD, advice)
    if hard == RLIM_INFINITY:
        return Finding("open files", f"no limit: {clients} clients at once")
    found = f"limit {machine.files_soft}, raised to {hard} at start: {clients} clients at once"
    if hard < _FILES_WANTED:
        return Finding("open files", found, Grade.NOTE, advice)
    return Finding("open files", found)


def _accept_queue(machine: Machine) -> Finding:
    if machine.accept_queue is None:
        return Finding("accept queue", "unknown: net.core.somaxconn cannot be read")
    found = f"{machine.accept_queue} connections (net.core.somaxconn)"
    if machine.accept_queue >= _ACCEPT_QUEUE_WANTED:
        return Finding("accept queue", found)
    advice = f"sysctl -w net.core.somaxconn={_ACCEPT_QUEUE_WANTED} survives bursts of new connections better"
    return Finding("accept queue", found, Grade.NOTE, advice)
