"""`fastlb doctor` as a process."""

import subprocess
import sys


def doctor() -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "fastlb", "doctor"], capture_output=True, text=True, timeout=20, check=False
    )


def test_doctor_says_which_engine_and_why(engine):
    """The machine that runs this suite can run fastlb, and the default is the native engine if built."""
    done = doctor()

    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if line.split()[1] == "engine")
    assert "native:" in line or "pure:" in line
    if engine.name == "native":
        assert "native:" in line


def test_doctor_has_a_line_for_each_subject():
    """What a support request needs, each on a line that starts with its grade."""
    lines = doctor().stdout.splitlines()

    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    topics = {line[5:20].strip() for line in lines}
    for topic in (
        "engine",
        "python",
        "cython",
        "uvloop",
        "event loop",
        "gil",
        "kernel",
        "splice",
        "io_uring",
        "open files",
    ):
        assert topic in topics
