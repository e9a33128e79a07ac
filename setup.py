"""The Cython extensions of the native engine; everything else is in pyproject.toml.

FASTLB_NO_EXTENSIONS=1   build a pure-Python wheel
FASTLB_DEBUG=1           bounds checks and debug information
FASTLB_SANITIZE=...      a value for -fsanitize (address,undefined or thread)
FASTLB_COVERAGE=1        count lines and branches with gcov. Cython's own line tracing takes the GIL
                         on every line; a worker that does so while it holds a spin lock waits for
                         a thread that waits for that lock with the GIL.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("fastlb/native")
DEBUG = os.environ.get("FASTLB_DEBUG") == "1"
COVERAGE = os.environ.get("FASTLB_COVERAGE") == "1"
SANITIZE = os.environ.get("FASTLB_SANITIZE", "")
WANTED = os.environ.get("FASTLB_NO_EXTENSIONS") != "1" and sys.platform == "linux"


def compiler_args() -> tuple[list[str], list[str]]:
    """For compiling and for linking."""
    if COVERAGE:
        return ["-O0", "-g", "--coverage", "-fprofile-update=atomic"], ["--coverage"]
    if SANITIZE:
        # Whole stacks in reports, and undefined behaviour ends the run as everything else does.
        sanitize = f"-fsanitize={SANITIZE}"
        return ["-O1", "-g", sanitize, "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"], [sanitize]
    return ["-O1", "-g"] if DEBUG else ["-O3", "-g0", "-fno-semantic-interposition"], []


def extensions() -> list[Extension]:
    """One extension for each .pyx of the native engine."""
    from Cython.Build import cythonize

    compile_args, link_args = compiler_args()
    modules = [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=[str(NATIVE)],
            depends=[str(header) for header in NATIVE.glob("*.h")],
            extra_compile_args=[*compile_args, "-Wno-unused-function"],
            extra_link_args=link_args,
        )
        for source in sorted(NATIVE.glob("*.pyx"))
    ]
    return cythonize(
        modules,
        nthreads=os.cpu_count() or 1,
        build_dir="build/cython",
        emit_linenums=COVERAGE,
        compiler_directives={
            "language_level": 3,
            "freethreading_compatible": True,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
        },
    )


setup(
    ext_modules=extensions() if WANTED else [],
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
