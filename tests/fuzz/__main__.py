"""The coverage-guided fuzzer: libFuzzer by way of atheris. Started by ci/fuzz.sh.

It mutates the corpus and the tables of the tests, and goes on from what reaches code that nothing
reached before: in the native parsers, compiled with counters, and in the pure ones. A disagreement,
a crash or a report of a sanitizer ends it, with the input in a file crash-*.
"""

import argparse
import ctypes
import sys
from collections.abc import Iterable
from pathlib import Path

import atheris

from fuzz import corpus, grammar

COUNTERS = 65_536
# The pure parsers; the rest of the engine is of no interest.
PURE = ["fastlb.pure.http1", "fastlb.pure.chunked", "fastlb.pure.syntax"]
with atheris.instrument_imports(include=PURE, enable_loader_override=False):
    from fuzz.judge import judge
    from support.engines import NAMES, load

    ENGINES = {name: load(name) for name in NAMES}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz the HTTP/1.1 parsers of both engines.")
    parser.add_argument("--seconds", type=int, default=600, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="repeat a run (default: 0, another each time)")
    parser.add_argument("--room", type=Path, required=True, help="a directory; what was found stays in it")
    parser.add_argument("--keep", action="store_true", help="do not fuzz: write what was found to corpus.txt")
    parser.add_argument("input", nargs="?", help="do not fuzz: judge this file, such as a crash-*")
    return parser.parse_args()


class Counters:
    """The table of counters.c, which was loaded before Python."""

    def __init__(self) -> None:
        self._process = ctypes.CDLL(None)
        self._table = (ctypes.c_char * COUNTERS).in_dll(self._process, "fuzz_counters")

    def give_to_libfuzzer(self) -> None:
        """From now on libFuzzer clears and reads them. They count already, or the build is wrong."""
        judge(ENGINES, corpus.seeds()[0])
        assert any(self._table.raw), "the native parsers are compiled without counters"
        pcs = (ctypes.c_void_p * 2 * COUNTERS).in_dll(self._process, "fuzz_pcs")
        for init, table in (
            ("__sanitizer_cov_8bit_counters_init", self._table),
            ("__sanitizer_cov_pcs_init", pcs),
        ):
            start = ctypes.addressof(table)
            getattr(self._process, init)(
                ctypes.c_void_p(start), ctypes.c_void_p(start + ctypes.sizeof(table))
            )

    def reached(self, data: bytes) -> set[int]:
        """The edges that an input comes by."""
        ctypes.memset(self._table, 0, COUNTERS)
        judge(ENGINES, data)
        return {at for at, count in enumerate(self._table.raw) if count}


def keep(inputs: Iterable[bytes], counters: Counters) -> None:
    """Write the shortest inputs that reach all that the inputs together reach beyond the seeds."""
    known = set().union(*map(counters.reached, corpus.seeds()))
    kept = []
    for data in sorted(inputs, key=len):
        if new := counters.reached(data) - known:
            known |= new
            kept.append(data)
    corpus.save(kept)


def inputs_of(room: Path) -> list[bytes]:
    """All inputs in a directory."""
    return [path.read_bytes() for path in room.iterdir()]


def write_inputs(room: Path, inputs: list[bytes]) -> None:
    """One file for each input, as libFuzzer wants them."""
    room.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs):
        (room / f"{number:04}").write_bytes(data)


def write_words(path: Path) -> None:
    """The words of the grammar, as a dictionary of libFuzzer."""
    words = {*grammar.SPICE, *grammar.NAMES, *grammar.METHODS, *grammar.TARGETS, *grammar.VERSIONS}
    words.update(*grammar.VALUES.values())
    lines = ['"' + "".join(f"\\x{c:02x}" for c in word) + '"\n' for word in sorted(words) if word]
    path.write_text("".join(lines), encoding="ascii")


def main() -> None:
    """Fuzz until the time is over or something is found."""
    args = arguments()
    found, given, words = args.room / "found", args.room / "given", args.room / "words"
    write_inputs(found, [])
    counters = Counters()
    if args.keep:
        keep([*corpus.load(), *inputs_of(found)], counters)
        return
    write_inputs(given, corpus.seeds() + corpus.load())
    write_words(words)
    counters.give_to_libfuzzer()
    options = [
        f"-max_total_time={args.seconds}",
        f"-max_len={corpus.INPUT_MAX_BYTES}",
        f"-seed={args.seed}",
        f"-dict={words}",
        f"-artifact_prefix={args.room}/",
        "-timeout=10",
        "-print_final_stats=1",
    ]
    where = [args.input] if args.input else [str(found), str(given)]
    atheris.Setup([sys.argv[0], *options, *where], lambda data: judge(ENGINES, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
