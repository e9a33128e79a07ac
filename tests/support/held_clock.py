"""A monotonic clock that the test puts forward, in a process that it starts: see clock.c."""

import struct
import subprocess
from pathlib import Path

from support.failing import compiler

SOURCE = Path(__file__).with_name("clock.c")
__all__ = ["HeldClock", "compiler"]


class HeldClock:
    """Give `environment` to the process; `put_forward` is seen by it at once."""

    def __init__(self, room: Path) -> None:
        built = room / "clock.so"
        command = [str(compiler()), "-O1", "-shared", "-fPIC", "-o", str(built), str(SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        self._file = room / "seconds"
        self._file.write_bytes(struct.pack("l", 0))
        self.environment = {"LD_PRELOAD": str(built), "HELD_CLOCK": str(self._file)}

    def put_forward(self, seconds: int) -> None:
        """It is so many seconds later than at the start."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("l", seconds))
