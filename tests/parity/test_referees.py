"""Differential tests: what both engines accept, llhttp and h11 read in the same way.

The same judges sit in the coverage-guided fuzzer (make fuzz), whose corpus is tried here again.
"""

import pytest
from hypothesis import given, settings

from fuzz import corpus, grammar
from fuzz.differences import DIFFERENCES
from fuzz.judge import Disagreement, judge, judge_chunks, judge_request, judge_response
from fuzz.readings import Reading
from support.heads import REFUSED, REFUSED_EITHER, REFUSED_RESPONSES, get

bounded = settings(max_examples=250, deadline=None)


@bounded
@given(raw=grammar.requests)
def test_accepted_request_is_read_alike_by_llhttp_and_h11(both, raw):
    """A request that another parser ends elsewhere is two requests (RFC 9112 11.2)."""
    judge_request(both, raw)


@bounded
@given(raw=grammar.responses)
def test_accepted_response_is_read_alike_by_llhttp_and_h11(both, raw):
    """A response that another parser ends elsewhere becomes the next user's."""
    judge_response(both, raw)


@bounded
@given(raw=grammar.responses)
def test_accepted_response_to_head_is_read_alike_by_h11(both, raw):
    """It ends at the blank line whatever its fields say (RFC 9112 6.3(1))."""
    judge_response(both, raw, b"HEAD")


@bounded
@given(raw=grammar.chunked_bodies)
def test_accepted_chunks_are_read_alike_by_llhttp_and_h11(both, raw):
    """The same data and the same end (RFC 9112 7.1)."""
    judge_chunks(both, raw)


@pytest.mark.parametrize(
    "raw", [*(raw for _, raw in REFUSED.values()), *REFUSED_EITHER.values(), *REFUSED_RESPONSES.values()]
)
def test_messages_that_hurt_are_judged_alike(both, raw):
    """The engines agree on each, as requests, as responses and as chunks."""
    judge_request(both, raw)
    judge_response(both, raw)
    judge_chunks(both, raw)


@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda known: f"{known.referee} {known.what}: {known.why}")
def test_listed_difference_is_real(both, known, monkeypatch):
    """A difference that no longer is one is taken off the table."""
    ask = judge_response if known.raw.startswith(b"HTTP/") else judge_request
    assert isinstance(ask(both, known.raw), Reading)

    monkeypatch.setattr("fuzz.differences.DIFFERENCES", tuple(d for d in DIFFERENCES if d is not known))
    with pytest.raises(Disagreement, match=f"^{known.referee}, {known.what}"):
        ask(both, known.raw)


def test_judges_see_a_parser_that_is_wrong(both, monkeypatch):
    """A judge that never speaks is no judge: here one that knows no trailing field."""
    raw = get(b"X: a")
    judge_request(both, raw)
    monkeypatch.setattr("fuzz.judge.read_request", _without_last_field)
    with pytest.raises(Disagreement):
        judge_request(both, raw)


def _without_last_field(rooms, raw):
    head = rooms.http1.parse_request(raw)
    start = (head.method, head.received_target, head.version)
    fields = tuple(head.fields[:-1])
    return Reading(start, fields, head.framing, head.keep_alive, head.head_bytes, b"", head.head_bytes)


def test_corpus_of_the_fuzzer_is_judged_alike(both):
    """What the fuzzer found worth keeping stays tried, on every run of the suite."""
    kept = corpus.load()
    assert kept
    for data in kept:
        judge(both, data)
