"""The chunk decoders alone; every body is also read cut at every byte and one byte at a time."""

import pytest

from fastlb.model.limits import TRAILER_MAX_BYTES
from support.chunks import BAD_CHUNKS, GOOD_CHUNKS, PADDED_CHUNKS
from support.cuts import Chunks, decode, read_chunks

pytestmark = pytest.mark.unbatched


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_chunk_framing_with_two_readings_is_refused(engine, why):
    """Each of these ends a chunk somewhere else for some other parser (RFC 9112 7.1)."""
    assert read_chunks(engine, BAD_CHUNKS[why]).refused == 400


@pytest.mark.parametrize("what", GOOD_CHUNKS)
def test_chunks_are_decoded(engine, what):
    """Data alone comes out; what is behind the end is left for the next message."""
    raw, body, rest = GOOD_CHUNKS[what]

    assert read_chunks(engine, raw) == Chunks(body, True, rest)


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_chunk_framing_with_two_readings_is_refused_from_backends_too(engine, why):
    """Responses are read as strictly as requests."""
    assert read_chunks(engine, BAD_CHUNKS[why], of_response=True).refused == 400


@pytest.mark.parametrize("what", GOOD_CHUNKS)
def test_chunks_of_a_response_are_decoded(engine, what):
    """What a client may send a backend may send."""
    raw, body, rest = GOOD_CHUNKS[what]

    assert read_chunks(engine, raw, of_response=True) == Chunks(body, True, rest)


@pytest.mark.parametrize("what", PADDED_CHUNKS)
def test_space_behind_a_chunk_size_is_for_backends(engine, what):
    """Some servers pad their sizes; no client does, and two parsers may differ about it."""
    assert read_chunks(engine, PADDED_CHUNKS[what], of_response=True) == Chunks(b"hi", True)
    assert read_chunks(engine, PADDED_CHUNKS[what]).refused == 400


@pytest.mark.parametrize("what", GOOD_CHUNKS)
def test_chunks_without_their_end_are_incomplete_at_every_byte(engine, what):
    """A body that breaks off is never taken for a whole one."""
    raw, _, rest = GOOD_CHUNKS[what]
    for cut in range(len(raw) - len(rest)):
        found = decode(engine, [raw[:cut]])
        assert (found.done, found.refused) == (False, None), cut


def test_chunk_that_there_is_no_room_for_is_refused_by_its_size(engine):
    """However the body is cut, not a byte of that chunk is taken."""
    fits = b"3\r\nabc\r\n1;x=y\r\nd\r\n"

    assert read_chunks(engine, fits + b"0\r\n\r\n", 4) == Chunks(b"abcd", True)
    for size_line in (b"1\r\n", b"00ffFFffFFffFFf;x\r\n"):
        found = read_chunks(engine, fits + size_line + b"e\r\n0\r\n\r\n", 4)
        assert (found.refused, found.taken_bytes) == (413, len(fits + size_line))


def test_trailers_come_out_as_they_are(engine):
    """Whole lines, without the empty one at their end; who passes them on chooses among them."""
    lines = b"A: b\tc \r\nHost:\r\nx_y:\xe9\r\n"

    assert read_chunks(engine, b"2\r\nhi\r\n0;x\r\n" + lines + b"\r\nA: b").trailers == lines
    assert read_chunks(engine, b"0\r\n\r\nA: b\r\n").trailers == b""


def test_trailer_section_has_a_limit_over_all_its_lines(engine):
    """Nobody may make us read for ever behind the last chunk."""
    lines = b"A: %b\r\n" % (b"x" * 1000)
    assert read_chunks(engine, b"0\r\n" + lines * (TRAILER_MAX_BYTES // 1000 + 1)).refused == 400
