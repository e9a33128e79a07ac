"""The Cython extensions of the native engine; everything else is in pyproject.toml.

FASTLB_NO_EXTENSIONS=1   build a pure-Python wheel
FASTLB_DEBUG=1           bounds checks, asserts and line tracing
FASTLB_SANITIZE=...      a value for -fsanitize (address,undefined or thread)
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = Path("fastlb/native")
DEBUG = os.environ.get("FASTLB_DEBUG") == "1"
SANITIZE = os.environ.get("FASTLB_SANITIZE", "")
WANTED = os.environ.get("FASTLB_NO_EXTENSIONS") != "1" and sys.platform == "linux"


def extensions() -> list[Extension]:
    """One extension for each .pyx of the native engine."""
    from Cython.Build import cythonize

    compile_args = ["-O1", "-g"] if DEBUG or SANITIZE else ["-O3", "-g0", "-fno-semantic-interposition"]
    link_args = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    if SANITIZE:
        # Whole stacks in reports, and undefined behaviour ends the run as everything else does.
        compile_args += ["-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
    macros = [("CYTHON_TRACE_NOGIL", "1")] if DEBUG else []
    modules = [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            include_dirs=[str(NATIVE)],
            depends=[str(header) for header in NATIVE.glob("*.h")],
            extra_compile_args=[*compile_args, *link_args, "-Wno-unused-function"],
            extra_link_args=link_args,
            define_macros=macros,
        )
        for source in sorted(NATIVE.glob("*.pyx"))
    ]
    return cythonize(
        modules,
        nthreads=os.cpu_count() or 1,
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "freethreading_compatible": True,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "linetrace": DEBUG,
        },
    )


setup(ext_modules=extensions() if WANTED else [])
