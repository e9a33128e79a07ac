"""Makes calls of the native engine to libc fail: see failing.c, which is compiled for each run."""

import ctypes
import errno
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
# The hooks know the tables of ELF with addends, as these machines have them.
MACHINES = ("x86_64", "aarch64")
# Of the calls behind these only some fail: the same few lines make them again and again.
EACH = 3


def compiler() -> str | None:
    """A C compiler for this machine, or None."""
    if sysconfig.get_platform().rsplit("-", 1)[-1] not in MACHINES or not sysconfig.get_platform().startswith(
        "linux"
    ):
        return None
    return shutil.which(os.environ.get("CC", "cc"))


class FailingCalls:
    """Calls of a name fail while `of` is entered; at other times none does."""

    def __init__(self, room: Path) -> None:
        built = room / "failing.so"
        command = [str(compiler()), "-O1", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        self._c = ctypes.CDLL(str(built))
        self._c.fail.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int)
        self._c.calls_failed.restype = ctypes.c_long
        assert self._c.hooks_set(1), "no module of the native engine is loaded"

    @contextmanager
    def of(self, name: str, error: int, *, first: int = 0, times: int = 1) -> Iterator[None]:
        """Calls of `name` fail with `error`, but the `first` ones; so many `times`."""
        assert self._c.fail(name.encode(), first, times, error), f"{name} cannot fail"
        try:
            yield
        finally:
            self._c.fail(b"", 0, 0, 0)

    def failed(self) -> int:
        """How many have failed since `of` was entered; ask while it is."""
        return int(self._c.calls_failed())

    def close(self) -> None:
        """The engine calls libc itself again."""
        self._c.hooks_set(0)


def describe(error: int) -> str:
    """EPIPE for errno.EPIPE."""
    return errno.errorcode[error]


def numbers() -> Iterator[int]:
    """Which call fails: each of the first, then fewer and fewer of those behind."""
    number = 0
    while True:
        yield number
        number += max(1, number // EACH)
