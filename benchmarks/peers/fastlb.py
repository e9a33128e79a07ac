"""fastlb itself, started as a user starts it, with nothing tuned but the number of workers."""

import importlib.util
import os
import sys
from pathlib import Path

from benchmarks.launch import Command
from benchmarks.machine import ROOT
from benchmarks.work import Work


class Fastlb:
    """fastlb with one worker of one engine."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.name = f"fastlb {engine}"

    def missing(self) -> str | None:
        """Whether this engine can be imported."""
        try:
            found = importlib.util.find_spec(f"fastlb.{self.engine}.engine")
        except ModuleNotFoundError:
            found = None
        return None if found else f"the {self.engine} engine is not built (make build, or pip install -e .)"

    def version(self) -> str:
        """The version of the package in this tree."""
        from fastlb import __version__

        return __version__

    def command(self, work: Work, run_dir: Path) -> Command:
        """`python -m fastlb` with the flags of a user."""
        args = [sys.executable, "-m", "fastlb", "--listen", f"127.0.0.1:{work.port}"]
        for port in work.backends:
            args += ["--backend", f"127.0.0.1:{port}"]
        args += ["--mode", "http" if work.http else "tcp", "--workers", "1", "--engine", self.engine]
        args += ["--access-log", str(work.access_log or "off")]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return Command(args=tuple(args), env={"PYTHONPATH": path})
