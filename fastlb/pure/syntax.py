"""The grammar of heads as regular expressions (RFC 9112 2 to 5, RFC 9110 5, RFC 3986 3.2.2).

Each is linear in its input: no part of a pattern matches what the part before it could. The
`_PREFIX` patterns match what may still become a whole line when more bytes come.
"""

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_TARGET = rb"[\x21-\x7e]+"

REQUEST_LINE = re.compile(rb"(%b) (%b) HTTP/([0-9])\.([0-9])\r\n" % (_TOKEN, _TARGET))
REQUEST_LINE_PREFIX = re.compile(
    rb"(?:%b(?: (?:%b(?: (?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?)?)?"
    % (_TOKEN, _TARGET)
)
# The reason may be missing, and its space with it, as many servers have it.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (%b))?\r\n" % _TEXT)
STATUS_LINE_PREFIX = re.compile(
    rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01](?: (?:[1-5](?:[0-9](?:[0-9](?: %b)?\r?)?)?)?)?)?)?)?)?)?)?)?)?"
    % _TEXT
)
FIELD_LINE = re.compile(rb"(%b):(%b)\r\n" % (_TOKEN, _TEXT))
FIELD_NAME = re.compile(rb"%b:" % _TOKEN)
FIELD_PREFIX = re.compile(rb"\r?|%b(?::%b\r?)?" % (_TOKEN, _TEXT))
TOKEN = re.compile(_TOKEN)
DIGITS = re.compile(rb"[0-9]+")
# uri-host [ ":" port ]; no user information.
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]*)?")
ABSOLUTE_FORM = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?]+)(.*)")
