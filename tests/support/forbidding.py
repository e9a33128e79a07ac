"""Run a command without io_uring, as most containers do: python forbidding.py COMMAND...

A seccomp filter lets io_uring_setup() fail with EPERM; it stays over the exec.
"""

import ctypes
import errno
import os
import struct
import sys

_IO_URING_SETUP = 425
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_ALLOW = 0x7FFF0000
# Classic BPF: load the number of the system call; if it is this one, EPERM, else allow.
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PROGRAM = (
    (_LOAD_WORD, 0, 0, 0),
    (_JUMP_EQUAL, 0, 1, _IO_URING_SETUP),
    (_RETURN, 0, 0, _SECCOMP_RET_ERRNO | errno.EPERM),
    (_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
)


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _forbid() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(_PROGRAM), b"".join(struct.pack("HBBI", *step) for step in _PROGRAM))
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _forbid()
    os.execv(sys.argv[1], sys.argv[1:])
