"""The chunk decoders alone; every body is also read cut at every byte and one byte at a time."""

import pytest

from fastlb.model.limits import TRAILER_MAX_BYTES
from support.chunks import BAD_CHUNKS, GOOD_CHUNKS
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


def test_trailer_section_has_a_limit_over_all_its_lines(engine):
    """Nobody may make us read for ever behind the last chunk."""
    lines = b"A: %b\r\n" % (b"x" * 1000)
    assert read_chunks(engine, b"0\r\n" + lines * (TRAILER_MAX_BYTES // 1000 + 1)).refused == 400
