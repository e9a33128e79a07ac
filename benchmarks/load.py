"""Load from wrk: one thread on the CPU of the load, and what it counted."""

import json
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.launch import LaunchError, stop

_RESULT_SCRIPT = Path(__file__).with_name("wrk_result.lua")
# wrk is stopped with SIGINT, which allows parts of a second; its own duration is only a backstop.
_BACKSTOP_S = 60
_ANSWER_TIMEOUT_S = 8
_LAST_ANSWERS_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One run of wrk. `cpu_ns` is what wrk itself used, user and system."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    errors: dict[str, int]
    cpu_ns: int

    @property
    def requests_per_s(self) -> float:
        """Completed requests per second of the run."""
        return self.requests * 1e6 / self.duration_us


def missing() -> str | None:
    """Why wrk cannot run here, or None."""
    return None if shutil.which("wrk") else "wrk is not installed (Debian: apt-get install wrk)"


def wrk(
    port: int, path: str, *, connections: int, seconds: float, new_connections: bool, cpu: int
) -> LoadResult:
    """Load http://127.0.0.1:`port` for `seconds`; one TCP connection each if `new_connections`.

    Raises: LaunchError if wrk gives no figures.
    """
    args = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{_BACKSTOP_S}s"]
    args += ["--timeout", f"{_ANSWER_TIMEOUT_S}s"]
    if new_connections:
        args += ["-H", "Connection: close"]
    args += ["-s", str(_RESULT_SCRIPT), f"http://127.0.0.1:{port}{path}"]
    used_before_s = _children_cpu_s()
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        time.sleep(seconds)  # the length of the measurement
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=_LAST_ANSWERS_TIMEOUT_S)
    finally:
        stop(process)
    cpu_ns = int((_children_cpu_s() - used_before_s) * 1e9)
    last = output.decode(errors="replace").strip().rpartition("\n")[2]
    if not last.startswith("{"):
        raise LaunchError(f"wrk: {last or 'no output'}")
    return LoadResult(**json.loads(last), cpu_ns=cpu_ns)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
