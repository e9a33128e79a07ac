"""The command line: what was typed in, an exit status out, and never a traceback for bad input.

0 stopped as asked, 1 the machine refused (port in use, no permission, unknown host), 2 bad input.
The engines and the event loop are imported only when something is to be served.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from fastlb.model.errors import ConfigError, EngineUnavailableError, StartError
from fastlb.surface.command import make_group, read_typed
from fastlb.surface.cpus import usable_cpus
from fastlb.surface.demo.flags import read_engine, read_port
from fastlb.surface.settings import read_settings
from fastlb.surface.standard_files import open_missing

EXIT_BAD_INPUT = 2
EXIT_START_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
_VALUE_SHOWN_MAX_CHARS = 120
# What write(2) says when standard output is a file with no room left or on a disk that fails.
_OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_HINT = """\
usage: fastlb --listen ADDRESS --backend ADDRESS [--backend ADDRESS ...] [flags]
   or: fastlb demo | fastlb doctor
try:   fastlb demo, or fastlb --help for every flag"""


def _serve(ctx: click.Context, /, **parameters: Any) -> int:
    typed = read_typed(parameters)
    given = [*typed.single, *typed.switches, *(flag for flag, values in typed.repeated.items() if values)]
    if ctx.invoked_subcommand is not None:
        if given:
            raise click.UsageError(f"{given[0]} does not go with {ctx.invoked_subcommand}")
        return 0
    if not given:
        click.echo(_HINT, err=True)
        return EXIT_BAD_INPUT
    config = read_settings(typed, cpus=usable_cpus())

    from fastlb.control.supervisor import run

    return run(config)


group = make_group(_serve)


@group.command()
@click.option("--port", metavar="N", default="8080", help="Where the balancer listens.  [8080]")
@click.option("--engine", metavar="auto|native|pure", default="auto", help="Which engine runs.  [auto]")
def demo(port: str, engine: str) -> int:
    """Start three backends, the balancer and some traffic, until Ctrl-C."""
    chosen = read_port(port), read_engine(engine)

    from fastlb.surface.demo.run import run_demo

    return run_demo(*chosen)


@group.command()
def doctor() -> int:
    """Say what this machine offers fastlb, and what is missing."""
    from fastlb.surface.doctor import run_doctor

    return run_doctor()


def main(argv: Sequence[str] | None = None) -> int:
    """Run `fastlb` with `argv` (sys.argv without its first item if None).

    Returns: the exit status, see above.
    """
    open_missing()
    try:
        status = group.main(args=argv, prog_name="fastlb", standalone_mode=False)
    except ConfigError as error:
        return _complain(describe(error), EXIT_BAD_INPUT)
    except click.ClickException as error:
        return _complain(f"{error.format_message()} (fastlb --help lists what there is)", EXIT_BAD_INPUT)
    except (StartError, EngineUnavailableError) as error:
        return _complain(str(error), EXIT_START_FAILED)
    except ImportError as error:
        return _complain(f"the installation is broken: {error}; see fastlb doctor", EXIT_START_FAILED)
    except click.Abort:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of --help or of the demo has gone; there is nobody left to tell.
        _discard_output()
        return EXIT_START_FAILED
    except OSError as error:
        if error.errno not in _OUTPUT_FAULTS:
            raise
        _discard_output()
        reason = os.strerror(error.errno).lower()
        return _complain(f"standard output cannot be written: {reason}", EXIT_START_FAILED)
    return int(status or 0)


def describe(error: ConfigError) -> str:
    """One line: the flag, the value as typed, and what would be right."""
    if error.value == "":
        return f"{error.path}: not {error.expected}"
    shown = repr(error.value)
    if len(shown) > _VALUE_SHOWN_MAX_CHARS:
        shown = f"{shown[:_VALUE_SHOWN_MAX_CHARS]}..."
    return f"{error.path}: {shown} is not {error.expected}"


def _discard_output() -> None:
    """What is still in the buffer would make the interpreter complain at exit."""
    null_fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_fd, sys.stdout.fileno())
    os.close(null_fd)


def _complain(text: str, status: int) -> int:
    click.echo("fastlb: " + " ".join(text.split()), err=True)
    return status
