"""The coverage-guided fuzzer: libFuzzer by way of atheris. Started by ci/fuzz.sh.

It mutates the corpus and the tables of the tests, and keeps what reaches code that nothing reached
before: in the native parsers, compiled with counters, and in the pure ones. A disagreement, a crash
or a report of a sanitizer ends it, with the input in a file crash-*.
"""

import argparse
import ctypes
import importlib.util
import sys
import tempfile
from pathlib import Path

import atheris

from fuzz import corpus

COUNTERS = 65_536
# Symbols that libFuzzer has to export before the native modules look for them.
CORE = "atheris.core_with_libfuzzer"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz the HTTP/1.1 parsers of both engines.")
    parser.add_argument("--seconds", type=int, default=600, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="the same numbers again (default: 0, new ones)")
    parser.add_argument("--counters", required=True, help="the library made from counters.c")
    parser.add_argument("--keep", action="store_true", help="write the corpus back, as small as it can be")
    parser.add_argument("input", nargs="?", help="a file crash-*: judge it alone")
    return parser.parse_args()


def count_native_edges(library: str) -> None:
    """Give the counters of the native code to libFuzzer."""
    spec = importlib.util.find_spec(CORE)
    assert spec is not None and spec.origin is not None
    core = ctypes.CDLL(spec.origin, ctypes.RTLD_GLOBAL)
    counters = ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    for init, table, entry_bytes in (
        (core.__sanitizer_cov_8bit_counters_init, "fuzz_counters", 1),
        (core.__sanitizer_cov_pcs_init, "fuzz_pcs", 16),
    ):
        start = ctypes.addressof(ctypes.c_char.in_dll(counters, table))
        init(ctypes.c_void_p(start), ctypes.c_void_p(start + COUNTERS * entry_bytes))


def write_inputs(room: Path, inputs: list[bytes]) -> None:
    """One file for each input, as libFuzzer wants them."""
    for number, data in enumerate(inputs):
        (room / f"{number:04}").write_bytes(data)


def main() -> None:
    """Fuzz until the time is over or something is found."""
    args = arguments()
    count_native_edges(args.counters)
    with atheris.instrument_imports(include=["fastlb.pure"], enable_loader_override=False):
        from fuzz.judge import judge
        from support.engines import NAMES, load

        engines = {name: load(name) for name in NAMES}
    room = Path(tempfile.mkdtemp(prefix="fuzz-"))
    write_inputs(room, corpus.seeds() + corpus.load())
    options = [
        f"-max_total_time={args.seconds}",
        f"-max_len={corpus.INPUT_MAX_BYTES}",
        f"-seed={args.seed}",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, args.input or str(room)], lambda data: judge(engines, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
