"""A bare epoll loop, compiled from floor.c: no balancer, but what none on epoll can go below here."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.launch import Command, LaunchError
from benchmarks.scenarios import FLOOR
from benchmarks.work import Work

_SOURCE = Path(__file__).with_name("floor.c")


class Floor:
    """The least that the kernel charges for this work on this machine."""

    name = FLOOR

    def missing(self) -> str | None:
        """Whether there is a C compiler."""
        return None if shutil.which("cc") else "no C compiler (Debian: apt-get install gcc)"

    def version(self) -> str:
        """Not asked for: it is no peer."""
        return ""

    def command(self, work: Work, run_dir: Path) -> Command:
        """Compile it into `run_dir`."""
        program = run_dir / "floor"
        built = subprocess.run(["cc", "-O2", "-o", program, _SOURCE], capture_output=True, text=True)
        if built.returncode:
            raise LaunchError(f"cc: {built.stderr.strip()}")
        return Command(args=(str(program), str(work.port), *map(str, work.backends)))
