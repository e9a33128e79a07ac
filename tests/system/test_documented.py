"""What README, docs/, examples/ and benchmarks/ tell a reader to type works when it is typed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastlb.surface.cli import main
from support.backend import OK, answering
from support.documented import ROOT, all_commands, blocks
from support.serving import Program, free_port, listens
from support.waiting import PATIENCE_S, wait_until

if not (ROOT / "README.md").exists() or not (ROOT / "docs").exists():
    pytest.skip("the documents are not beside the tests", allow_module_level=True)

# Where a command that is not `fastlb` or `make` is run. `.ci/run` is what runs this.
_RUN_HERE = {
    "python3": "test_readme_s_first_balancer_serves_from_both_servers",
    "curl": "test_readme_s_first_balancer_serves_from_both_servers",
    "gunicorn": "test_flask_example_answers_with_the_client_s_address",
    "uvicorn": "test_starlette_example_streams_and_echoes",
    "python": "test_program_with_a_balancer_of_its_own_counts_its_requests",
    ".ci/run": "",
}
COMMANDS = all_commands()
FASTLB = [c for c in COMMANDS if c.words[0] == "fastlb" and c.words[1:] not in (("demo",), ("doctor",))]
MAKE = [c for c in COMMANDS if c.words[0] == "make"]
_BIN = str(Path(sys.executable).parent)
_ENVIRONMENT = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}"}


def moved(text: str, ports: dict[str, int]) -> str:
    """The text with free ports in place of those that it names."""
    for port, free in ports.items():
        text = text.replace(port, str(free))
    return text


def ask(*words: str) -> str:
    """What a client that ends by itself has printed."""
    ended = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE_S, env=_ENVIRONMENT, check=False
    )
    assert ended.returncode == 0, (words, ended.stderr)
    return ended.stdout


class Reader:
    """Somebody who types the commands of one document, with free ports in place of its own."""

    def __init__(self, stack: ExitStack, engine: str) -> None:
        self._stack = stack
        self._engine = engine
        self.ports = {port: free_port() for port in ("8080", "9001", "9002")}

    def type(self, line: str, cwd: Path = ROOT / "examples") -> Program:
        """Start a program, which is ended with the test."""
        words = moved(line, self.ports).split()
        if words[0] == "fastlb":
            words = [sys.executable, "-m", "fastlb", *words[1:], "--engine", self._engine]
        elif words[0] in ("gunicorn", "uvicorn"):
            words = [sys.executable, "-m", *words]
        elif words[0].startswith("python"):
            words[0] = sys.executable
        program = Program(words, cwd=cwd)
        self._stack.callback(program.end)
        return program

    def wait_listening(self, port: str, program: Program) -> None:
        """Until it accepts on what has taken the place of `port`."""

        def listening() -> bool:
            program.wait_alive("it listened")
            return listens(self.ports[port])

        wait_until(listening, f"{program.command} listening")


@pytest.fixture
def reader(engine) -> Iterator[Reader]:
    """A reader of a document; what was started is ended behind the test."""
    with ExitStack() as stack:
        yield Reader(stack, engine.name)


def shown(document: str, program: str) -> list[str]:
    """The lines of one program in a document."""
    return [" ".join(c.words) for c in COMMANDS if c.document == document and c.words[0] == program]


def test_every_documented_command_is_known_here():
    """A command of a kind that no test runs is found out by a reader."""
    unknown = [str(c) for c in COMMANDS if c.words[0] not in {"fastlb", "make", *_RUN_HERE}]

    assert not unknown
    assert all(not name or name in globals() for name in _RUN_HERE.values())


@pytest.mark.parametrize("command", FASTLB, ids=str)
def test_documented_flags_are_accepted(command, monkeypatch):
    """What stands behind `fastlb` in the documents makes a configuration."""
    made = []
    monkeypatch.setattr("fastlb.control.supervisor.run", lambda config: made.append(config) or 0)
    words = list(command.words[1:])
    if "..." in words:
        words[words.index("...") : words.index("...") + 1] = ["--listen", ":0", "--backend", "app:1"]

    assert main(words) == 0
    assert made


@pytest.mark.skipif(not (ROOT / "Makefile").exists() or not shutil.which("make"), reason="needs the Makefile")
@pytest.mark.parametrize("command", MAKE, ids=str)
def test_documented_make_target_exists(command):
    """make knows how to make it; what it does is shown where it is run."""
    ended = subprocess.run(
        ["make", "--dry-run", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_readme_s_first_balancer_serves_from_both_servers(reader, tmp_path):
    """The two minutes of the README: two servers, the balancer, curl."""
    servers = shown("README.md", "python3")
    assert len(servers) == 2
    for number, (line, port) in enumerate(zip(servers, ("9001", "9002"), strict=True)):
        room = tmp_path / str(number)
        room.mkdir()
        (room / f"from-{number}").touch()
        reader.wait_listening(port, reader.type(line, cwd=room))
    balancer = reader.type(shown("README.md", "fastlb")[0], cwd=tmp_path)
    reader.wait_listening("8080", balancer)
    curl = moved(shown("README.md", "curl")[0], reader.ports).split()

    answers = "".join(ask(*curl, "--silent") for _ in range(6))

    assert "from-0" in answers
    assert "from-1" in answers
    wait_until(lambda: sum(" GET / 200 " in line for line in balancer.said) == 6, "the access log")


def test_readme_s_program_serves(reader, backend, tmp_path):
    """The Python of the README is a balancer."""
    for port in ("9001", "9002"):
        reader.ports[port] = backend(answering(OK)).address.port
    (text,) = blocks(ROOT / "README.md", "python")
    (tmp_path / "balance.py").write_text(moved(text, reader.ports))
    program = reader.type("python balance.py", cwd=tmp_path)
    reader.wait_listening("8080", program)

    assert ask("curl", "--silent", f"http://127.0.0.1:{reader.ports['8080']}/") == "ok"
    assert program.end() == 0


def test_program_in_an_event_loop_of_its_own_starts_and_ends(reader, backend, tmp_path):
    """The Python of docs/python.md, which only is less patient here."""
    reader.ports["9001"] = backend(answering(OK)).address.port
    (text,) = blocks(ROOT / "docs" / "python.md", "python")
    assert "asyncio.sleep(60)" in text
    (tmp_path / "inside.py").write_text(moved(text.replace("sleep(60)", "sleep(0)"), reader.ports))

    said = ask(sys.executable, str(tmp_path / "inside.py"))

    assert "listening on 127.0.0.1:" in said
    assert "Ledger(" in said


def test_program_with_a_balancer_of_its_own_counts_its_requests():
    """examples/in_python.py, as examples/README.md starts it."""
    (line,) = [line for line in shown("examples/README.md", "python") if line.endswith(".py")]

    said = ask(sys.executable, str(ROOT / "examples" / line.split()[1]))

    assert said == "100 of 100 answered; picked: [50, 50]\n"


def start_example(reader: Reader, server: str) -> None:
    """Both servers and the balancer of one example."""
    for line, port in zip(shown("examples/README.md", server), ("9001", "9002"), strict=True):
        reader.wait_listening(port, reader.type(line))
    reader.wait_listening("8080", reader.type(shown("examples/README.md", "fastlb")[0]))


def example_curl(reader: Reader, path: str) -> list[str]:
    """The words of the example's curl for this path."""
    (line,) = [line for line in shown("examples/README.md", "curl") if line.endswith(f"8080{path}")]
    return moved(line, reader.ports).split()


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_flask_example_answers_with_the_client_s_address(reader):
    """gunicorn as the example starts it, behind fastlb as the example starts it."""
    start_example(reader, "gunicorn")

    answers = {ask(*example_curl(reader, "/"), "--silent") for _ in range(4)}

    assert len(answers) == 2
    assert all(" answers 127.0.0.1 for http://127.0.0.1:" in answer for answer in answers)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_starlette_example_streams_and_echoes(reader):
    """uvicorn as the example starts it: an event of the stream, and a word of the WebSocket."""
    start_example(reader, "uvicorn")
    stream = reader.type(" ".join([*example_curl(reader, "/clock"), "--silent", "--show-error"]))
    wait_until(lambda: any(line.startswith("data: ") for line in stream.said), "an event")

    (line,) = [line for line in shown("examples/README.md", "python") if "websockets" in line]
    words = [sys.executable, *moved(line, reader.ports).split()[1:]]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as talk:
        assert talk.stdin is not None and talk.stdout is not None
        talk.stdin.write("hello\n")
        talk.stdin.flush()
        # Read to the echo before the end of the input, which ends the conversation.
        assert any("hello" in line for line in talk.stdout)
        talk.stdin.close()
