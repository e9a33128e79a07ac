"""The grammar of heads as regular expressions (RFC 9112 2 to 5, RFC 9110 5, RFC 3986 3.2.2).

Each is linear in its input: no part of a pattern matches what the part before it could. The
`_PREFIX` patterns match what may still become a whole line when more bytes come.
"""

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
# No '#': a fragment is not sent, and some servers cut it off while others take it for the path.
_TARGET = rb"[\x21\x22\x24-\x7e]+"

REQUEST_LINE = re.compile(rb"(%b) (%b) HTTP/([0-9])\.([0-9])\r\n" % (_TOKEN, _TARGET))
REQUEST_LINE_PREFIX = re.compile(
    rb"(?:%b(?: (?:%b(?: (?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?)?)?"
    % (_TOKEN, _TARGET)
)
# The reason may be missing, and its space with it, as many servers have it.
STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (%b))?\r\n" % _TEXT)
STATUS_LINE_PREFIX = re.compile(
    rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9](?: (?:[1-9](?:[0-9](?:[0-9](?: %b)?\r?)?)?)?)?)?)?)?)?)?)?)?)?"
    % _TEXT
)


class FieldSyntax(NamedTuple):
    """A field line, its name up to the colon, and what may still become a line."""

    line: re.Pattern[bytes]
    name: re.Pattern[bytes]
    prefix: re.Pattern[bytes]


def _field_syntax(before_colon: bytes) -> FieldSyntax:
    return FieldSyntax(
        re.compile(rb"(%b)%b:(%b)\r\n" % (_TOKEN, before_colon, _TEXT)),
        re.compile(rb"%b%b:" % (_TOKEN, before_colon)),
        re.compile(rb"\r?|%b%b(?::%b\r?)?" % (_TOKEN, before_colon, _TEXT)),
    )


REQUEST_FIELD = _field_syntax(b"")
# RFC 9112 5.1: white space before the colon is removed from responses, and refused in requests.
RESPONSE_FIELD = _field_syntax(rb"[\t ]*")
TOKEN = re.compile(_TOKEN)
DIGITS = re.compile(rb"[0-9]+")
# uri-host [ ":" port ] or nothing; no user information, no port alone (RFC 9110 4.2.1), and no comma,
# by which two hosts would be joined. What is in brackets is for inet_pton().
HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::([0-9]*))?|")
ABSOLUTE_FORM = re.compile(rb"((?i:http|ws)(?i:s)?)://([^/?]+)(.*)")
