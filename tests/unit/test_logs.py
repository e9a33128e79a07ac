"""The operational log."""

import json
import os
import re

import pytest
from fakes import Lines

from fastlb.control.logs import OftenRepeated, StandardError
from fastlb.model.config import LogFormat


def test_a_text_line_is_time_level_event_and_named_values():
    """For eyes and for grep."""
    said = Lines()
    said.log.info("backend up", backend="a", took_s=0.5, port=80)

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info backend up backend=a took_s=0\.5 port=80\n",
        said.lines[0],
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("two words", '"two words"'),
        ('a "b"', '"a \\"b\\""'),
        ("", '""'),
        ("x=y", '"x=y"'),
        (None, "-"),
        ("line\nbreak", "line?break"),
        ("\x1b[31m", "?[31m"),
        ("café", "café"),
    ],
)
def test_a_value_in_a_text_line_cannot_be_taken_for_something_else(value, written):
    """Names and reasons come from outside: no line of theirs, no escape sequence."""
    said = Lines()
    said.log.info("x", value=value)

    assert said.lines[0].endswith(f" value={written}\n")


def test_a_json_line_is_one_object_with_the_same_names():
    """For machines."""
    said = Lines(LogFormat.JSON)
    said.log.warning("backend down", backend="a\nb", in_rotation=1)
    record = json.loads(said.lines[0])

    assert said.lines[0].count("\n") == 1
    assert {**record, "time": ""} == {
        "time": "",
        "level": "warning",
        "event": "backend down",
        "backend": "a\nb",
        "in_rotation": 1,
    }


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_lines_below_the_level_are_not_written(level, count):
    """--log-level."""
    said = Lines(level=level)
    for say in (said.log.debug, said.log.info, said.log.warning, said.log.error):
        say("x")

    assert len(said.lines) == count


def test_json_is_written_without_orjson_too(monkeypatch):
    """PyPy has no orjson."""
    monkeypatch.setattr("fastlb.control.logs.find_spec", lambda name: None)
    said = Lines(LogFormat.JSON)
    said.log.info("x", a=1)

    assert json.loads(said.lines[0])["a"] == 1


def test_a_full_pipe_does_not_stop_the_loop_and_the_loss_is_said():
    """Standard error into a reader that hangs: the traffic goes on."""
    read_fd, write_fd = os.pipe()
    try:
        sink = StandardError(write_fd)
        line = b"x" * 1023 + b"\n"
        for _ in range(100):
            sink(line)
        received = os.read(read_fd, 1 << 20)
        sink(b"after\n")
        after = os.read(read_fd, 1 << 20)
    finally:
        os.close(read_fd)
        os.close(write_fd)

    lost = 100 - len(received) // 1024
    assert lost > 0
    assert after == b"%d log lines were lost here\nafter\n" % lost


def test_a_closed_pipe_does_not_stop_the_loop():
    """The reader may end before fastlb does."""
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    try:
        StandardError(write_fd)(b"nobody reads this\n")
    finally:
        os.close(write_fd)


def test_a_line_too_long_to_be_written_at_once_is_cut():
    """More than PIPE_BUF might block, or be mixed with other writers."""
    read_fd, write_fd = os.pipe()
    try:
        StandardError(write_fd)(b"x" * 10_000 + b"\n")
        received = os.read(read_fd, 1 << 20)
    finally:
        os.close(read_fd)
        os.close(write_fd)

    assert len(received) == 4096
    assert received.endswith(b"x...\n")


def test_what_happens_often_is_said_once_in_a_while_with_its_count():
    """At the connection limit accepting pauses thousands of times a second."""
    said = Lines()
    paused = OftenRepeated(said.log.warning, "paused", every_s=10)
    for tenth in range(201):
        paused.happened(tenth / 10, reason="full")

    assert [re.search(r"times=(\d+)", line)[1] for line in said.lines] == ["1", "100", "100"]
