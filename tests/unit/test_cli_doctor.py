"""How `fastlb doctor` grades what it found."""

from dataclasses import replace

import pytest

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
