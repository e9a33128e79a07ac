"""How `fastlb doctor` grades what it found."""

import errno
import os
import sys
from dataclasses import replace
from resource import RLIM_INFINITY

import pytest

from fastlb.surface import doctor, machine
from fastlb.surface.doctor import Grade, judge, kernel_version
from fastlb.surface.machine import LIBRARIES, Machine

IDEAL = Machine(
    engine="native",
    engine_reason="built for this platform",
    engine_error="",
    python="3.14.0",
    implementation="CPython",
    system="Linux",
    kernel="6.12.0-1-amd64",
    gil_enabled=True,
    free_threaded_build=False,
    cython_built_with="3.3.1",
    cython_installed="",
    libraries=dict.fromkeys(LIBRARIES, "1.0"),
    loop="uvloop",
    splice_error="",
    io_uring_error="",
    files_soft=1024,
    files_hard=1_048_576,
    accept_queue=4096,
    cpus=4,
)


def findings(**changes):
    """Findings by topic for a machine that differs from the ideal one."""
    return {finding.topic: finding for finding in judge(replace(IDEAL, **changes))}


def test_ideal_machine_has_nothing_to_advise():
    """Advice that always stands there is not read."""
    for finding in findings().values():
        assert (finding.grade, finding.advice) == (Grade.OK, ""), finding.topic


@pytest.mark.parametrize(
    ("topic", "changes"),
    [
        ("engine", {"engine": "pure", "engine_reason": "asked for"}),
        ("python", {"implementation": "PyPy"}),
        ("uvloop", {"libraries": IDEAL.libraries | {"uvloop": ""}}),
        ("event loop", {"loop": "asyncio"}),
        ("gil", {"free_threaded_build": True}),
        ("kernel", {"kernel": "4.4.0"}),
        ("kernel", {"system": "Darwin"}),
        ("splice", {"splice_error": "Operation not permitted"}),
        ("io_uring", {"io_uring_error": "Operation not permitted"}),
        ("open files", {"files_hard": 1024}),
        ("accept queue", {"accept_queue": 128}),
    ],
)
def test_what_could_be_better_is_noted_with_advice(topic, changes):
    """Each line that is not ideal says what to do."""
    finding = findings(**changes)[topic]

    assert finding.grade is Grade.NOTE
    assert finding.advice


@pytest.mark.parametrize(
    ("topic", "changes"),
    [
        ("engine", {"engine": "", "engine_error": "undefined symbol"}),
        ("h11", {"libraries": IDEAL.libraries | {"h11": ""}}),
        ("open files", {"files_hard": 64}),
    ],
)
def test_what_cannot_work_is_bad(topic, changes):
    """These make `fastlb doctor` exit with 1."""
    assert findings(**changes)[topic].grade is Grade.BAD


def test_free_threaded_python_is_recognised():
    """The GIL may be off; nothing is wrong with that."""
    finding = findings(free_threaded_build=True, gil_enabled=False)["gil"]

    assert (finding.grade, "off" in finding.found) == (Grade.OK, True)


@pytest.mark.parametrize(
    ("release", "version"), [("6.1.0-13-amd64", (6, 1)), ("4.5", (4, 5)), ("weird", (0, 0)), ("5.x", (0, 0))]
)
def test_kernel_version_is_the_first_two_numbers(release, version):
    """Distributions append what they like to uname -r."""
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("topic", "changes", "said"),
    [
        ("cython", {"cython_built_with": "", "cython_installed": "3.3.1"}, "3.3.1, needed only to build"),
        ("cython", {"cython_built_with": "", "engine": "pure"}, "nothing here is compiled"),
        ("open files", {"files_hard": RLIM_INFINITY}, "no limit"),
        ("accept queue", {"accept_queue": None}, "cannot be read"),
    ],
)
def test_what_cannot_be_told_is_said_without_advice(topic, changes, said):
    """It is no fault of the machine."""
    finding = findings(**changes)[topic]

    assert said in finding.found
    if topic != "cython":
        assert (finding.grade, finding.advice) == (Grade.OK, "")


@pytest.mark.parametrize(("files_hard", "status"), [(1_048_576, 0), (1024, 0), (64, 1)])
def test_advice_stands_behind_what_was_found(files_hard, status, monkeypatch, capsys):
    """One line each, and an exit status for scripts."""
    monkeypatch.setattr(doctor, "look", lambda: replace(IDEAL, files_hard=files_hard))

    assert doctor.run_doctor() == status
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "open files" in line)
    assert (" -- ulimit -Hn" in line) is (files_hard < 1_048_576)


def test_engine_that_does_not_import_is_a_finding(monkeypatch):
    """The doctor is asked when something is broken, and must not break with it."""

    def load(choice):
        raise ImportError("undefined symbol: x")

    monkeypatch.setattr(machine, "load", load)
    monkeypatch.setattr(machine, "try_splice", lambda: "Operation not permitted")
    seen = machine.look()

    assert (seen.engine, seen.engine_error, seen.cython_built_with) == ("", "undefined symbol: x", "")
    assert seen.splice_error == "Operation not permitted"


def test_library_that_is_not_there_has_no_version(monkeypatch):
    """Neither as a module nor as a distribution."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setattr(machine, "LIBRARIES", ("uvloop", "click"))
    seen = machine.look()

    assert (seen.loop, seen.libraries["uvloop"]) == ("asyncio", "")
    assert seen.libraries["click"]
    assert machine._version("no-such-distribution-of-fastlb") == ""


def test_engine_that_is_not_compiled_names_no_compiler(monkeypatch):
    """Cython's own modules carry its version; there may be none of it one day."""
    monkeypatch.setattr(machine.importlib, "import_module", lambda name: machine)

    assert machine._cython_built_with() == ""


def test_splice_is_tried(monkeypatch):
    """A sandbox may refuse it, and a Python may not have it."""

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "splice", refuse, raising=False)
    assert machine.try_splice() == "Operation not permitted"
    monkeypatch.delattr(os, "splice")
    assert "no os.splice" in machine.try_splice()


@pytest.mark.parametrize(("text", "found"), [("4096\n", 4096), ("?", None), (None, None)])
def test_accept_queue_is_what_the_kernel_says(text, found, tmp_path, monkeypatch):
    """Or unknown, where there is no such file."""
    said = tmp_path / "somaxconn"
    if text is not None:
        said.write_text(text)
    monkeypatch.setattr(machine, "_SOMAXCONN", said)

    assert machine._accept_queue() == found
