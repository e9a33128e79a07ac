"""What this process owns: descriptors, threads, children."""

import os
import threading


def open_fds() -> dict[int, str]:
    """Open descriptors and what they are. The one that reads the directory is left out."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def thread_count() -> int:
    """Threads of this process, those that Python does not know included."""
    return len(os.listdir("/proc/self/task"))


def thread_names() -> list[str]:
    """Names of the threads that Python knows."""
    return sorted(thread.name for thread in threading.enumerate())


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process has in RAM (proc(5), statm, second field in pages)."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
