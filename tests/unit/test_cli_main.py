"""What the command line prints and returns, without starting anything."""

import errno
import sys

import click
import pytest

from fastlb import __version__
from fastlb.model.errors import EngineUnavailableError, StartError
from fastlb.surface import cli
from fastlb.surface.flags import FLAGS, Topic

SERVE = ["--listen", "127.0.0.1:0", "--backend", "127.0.0.1:9001"]


@pytest.fixture
def served(monkeypatch):
    """The configurations that would have been served; `result` is what serving does."""
    calls = []

    def run(config):
        calls.append(config)
        if isinstance(run.result, Exception):
            raise run.result
        return run.result

    run.result = 0
    calls_module = type(sys)("fastlb.control.supervisor")
    calls_module.run = run
    monkeypatch.setitem(sys.modules, "fastlb.control.supervisor", calls_module)
    run.calls = calls
    return run


def test_good_flags_are_served(served):
    """The status of the supervisor is the status of the command."""
    assert cli.main(SERVE) == 0
    assert [str(backend.address) for backend in served.calls[0].backends] == ["127.0.0.1:9001"]


def test_no_arguments_give_a_hint(capsys):
    """Somebody who types the name alone wants to know what it does."""
    assert cli.main([]) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--listen" in printed.err
    assert "fastlb demo" in printed.err


def test_version_is_one_line(capsys):
    """Scripts read it."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastlb {__version__}\n"


def test_help_lists_every_flag_under_its_topic(capsys):
    """Topics in their order, each flag once as the head of a line."""
    assert cli.main(["--help"]) == 0

    out = capsys.readouterr().out
    places = [out.index(f"\n{topic.value}:\n") for topic in Topic]
    assert places == sorted(places)
    for flag in FLAGS:
        assert f"\n  {flag.name} " in out
    assert "\n  demo " in out
    assert "\n  doctor " in out


def test_h_is_help(capsys):
    """What people try first."""
    assert cli.main(["-h"]) == 0

    assert capsys.readouterr().out.startswith("Usage: fastlb ")


def test_help_says_each_command_in_full(capsys):
    """click cuts a long description off with three dots."""
    cli.main(["--help"])

    assert "..." not in capsys.readouterr().out.partition("\nCommands:\n")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "8080", "--backend", "a:1"],
        [*SERVE, "--workers", "two"],
        [*SERVE, "--lisen", ":1"],
        [*SERVE, "extra"],
        [*SERVE, "--rise"],
        [*SERVE, "demo"],
        ["--listen", ":1\n2", "--backend", "a:1"],
        ["--listen", ":1"],
        ["demo", "--port", "x"],
        ["demo", "--port", "65536"],
        ["demo", "--engine", "fast"],
        ["doctor", "--now"],
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, capsys, served):
    """Scripts and people read the same line; nothing is started."""
    assert cli.main(arguments) == 2

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastlb: ")
    assert printed.err.count("\n") == 1
    assert served.calls == []


def test_typing_error_in_a_flag_is_answered_with_the_flag(capsys):
    """The likeliest meaning is offered."""
    cli.main([*SERVE, "--polcy", "random"])

    assert "--policy" in capsys.readouterr().err


def test_very_long_value_is_cut(capsys):
    """One line must stay a line that fits a log."""
    cli.main([*SERVE, "--rise", "9" * 10_000])

    assert len(capsys.readouterr().err) < 300


@pytest.mark.parametrize(
    "error",
    [
        StartError("--listen :80: permission denied"),
        EngineUnavailableError("--engine native: not built"),
        ImportError("No module named 'h11'"),
    ],
)
def test_what_the_machine_refuses_is_one_line_and_status_1(error, served, capsys):
    """A start error is not bad input: the same flags may work on another machine."""
    served.result = error

    assert cli.main(SERVE) == 1

    err = capsys.readouterr().err
    assert str(error) in err
    assert err.count("\n") == 1


def test_version_and_help_do_not_import_what_serves(monkeypatch):
    """Start-up time: the event loop and the engines are for serving only."""
    import subprocess

    code = (
        "import sys; from fastlb.surface.cli import main; main(['--version']);"
        "bad = {'asyncio', 'uvloop', 'rich', 'httptools', 'h11', 'orjson'} & set(sys.modules);"
        "sys.exit(f'imported: {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (click.Abort(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (
            OSError(errno.ENOSPC, ""),
            1,
            "fastlb: standard output cannot be written: no space left on device\n",
        ),
    ],
)
def test_an_end_from_outside_has_its_status(error, status, said, served, capsys, monkeypatch):
    """Ctrl-C, a reader that has gone, a full disk: no traceback, and silence where nobody listens."""
    discarded = []
    monkeypatch.setattr(cli, "_discard_output", lambda: discarded.append(1))
    served.result = error

    assert cli.main(SERVE) == status
    assert capsys.readouterr().err == said
    assert len(discarded) == (status == 1)


def test_a_fault_that_is_none_of_the_output_is_not_hidden(served):
    """It would be called a full disk, and never be found."""
    served.result = OSError(errno.EBADF, "")

    with pytest.raises(OSError, match=r"\[Errno"):
        cli.main(SERVE)
