"""Which fields of a request reach a backend, by their names."""

import pytest

from fastlb.model.fields import CLIENT_FIELDS, FieldConfig, UnderscoreFields
from support.backend import recording

TRUSTED = ("127.0.0.1",)


def passed(balance, backend, *fields, trusted=(), config=None):
    """Send one request with these fields; return those that the backend got, without our own."""
    heads = []
    client = balance(backend(recording(heads)), trusted=trusted, fields=config, via="").connect()
    client.send(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *fields, b"", b""]))
    assert client.response().status == 200
    lines = heads[0].removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert lines[:2] == [b"GET / HTTP/1.1", b"Host: a"]
    return [line for line in lines[2:] if line not in ours(lines)]


def ours(lines):
    """The fields that the balancer adds to each request."""
    return [
        line
        for line in lines
        if line.startswith((b"X-Forwarded-For: 127.", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a"))
    ]


FOLDED = [
    b"X_Forwarded_For: 6.6.6.6",
    b"X_Forwarded-For: 6.6.6.6",
    b"x-forwarded_FOR: 6.6.6.6",
    b"X_FORWARDED_PROTO: https",
    b"X_Forwarded_Host: evil",
    b"X-Forwarded_Port: 1",
    b"Keep_Alive: 1",
    b"Proxy_Connection: close",
    b"HTTP2_Settings: x",
    b"Max_Forwards: 1",
    b"X_Real_IP: 6.6.6.6",
    b"True_Client-IP: 6.6.6.6",
    b"SCRIPT_NAME: /admin",
    b"PATH_INFO: /admin",
    b"Remote_User: root",
]


@pytest.mark.parametrize("trusted", [(), TRUSTED], ids=["untrusted", "trusted"])
def test_name_that_folds_to_one_of_ours_is_dropped(balance, backend, trusted):
    """WSGI gives `X_Forwarded_For` and `X-Forwarded-For` to a program as one variable. No proxy writes
    such a name, so none is believed with it."""
    assert passed(balance, backend, b"A: 1", *FOLDED, b"B: 2", trusted=trusted) == [b"A: 1", b"B: 2"]


def test_connection_and_underscores_bring_nothing_back(balance, backend):
    """A name in Connection is taken out as it is written, and what folds is taken out anyway."""
    fields = (b"Connection: X_Forwarded_For, X_Mine", b"X_Forwarded_For: 6.6.6.6", b"X_Mine: 1", b"X-Mine: 2")

    assert passed(balance, backend, *fields) == [b"X-Mine: 2"]


def test_other_names_with_underscores_pass(balance, backend):
    """They are valid (RFC 9110 5.6.2), and programs are written that send them; those that only look
    alike are others."""
    fields = [b"X_Own: 1", b"_: 2", b"Api_Key_: 3", b"X_Forwarded_Fo: 4", b"X__Forwarded_For: 5", b"Via_: 6"]

    assert passed(balance, backend, *fields) == fields


@pytest.mark.parametrize("trusted", [(), TRUSTED], ids=["untrusted", "trusted"])
def test_names_with_underscores_can_be_dropped(balance, backend, trusted):
    """A field that a proxy in front sets, such as `X-User`, could be given a twin by its client."""
    config = FieldConfig(underscores=UnderscoreFields.DROP)
    fields = (b"X_Own: 1", b"_: 2", b"A: 3", b"Api_Key_: 4", b"X-User: 5", b"X_User: 6")

    assert passed(balance, backend, *fields, trusted=trusted, config=config) == [b"A: 3", b"X-User: 5"]


def test_folded_names_of_a_response_pass(balance, backend):
    """No client reads them by CGI, and what a backend says is its own."""
    fields = (b"Content_Length: 1", b"X_Forwarded_For: 2", b"Keep_Alive: 3", b"X-Real-IP: 4")
    response = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 2", b"", b"ok"])
    config = FieldConfig(underscores=UnderscoreFields.DROP)
    client = balance(backend(recording([], response)), fields=config).connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = client.response()

    assert answer.undated + answer.body == response


@pytest.mark.parametrize("name", CLIENT_FIELDS)
def test_field_that_says_who_the_client_is_comes_from_trusted_proxies_alone(balance, backend, name):
    """Servers and frameworks believe these; a trusted proxy is believed, and Connection takes none out."""
    fields = [name.encode() + b": 1", name.upper().encode() + b": 2"]
    naming = b"Connection: " + name.encode()

    assert passed(balance, backend, *fields) == []
    assert passed(balance, backend, naming, *fields, trusted=TRUSTED) == fields


def test_fields_that_resemble_those_of_a_client_pass(balance, backend):
    """A name of the same length and with the same ends is another name."""
    fields = [b"X-Reel-IP: 1", b"X-Real-Ip-: 2", b"True-Clienx-IP: 3", b"X-Forwarded-Sxl: 4", b"Forwardex: 5"]

    assert passed(balance, backend, *fields) == fields


def test_field_of_a_client_can_be_let_through(balance, backend):
    """An application may use such a name for something else; in both spellings, and no other."""
    config = FieldConfig(passed=("x_forwarded_USER",))
    fields = [b"X-Forwarded-User: 1", b"X_Forwarded_User: 2"]

    assert passed(balance, backend, *fields, b"X-Real-IP: 3", config=config) == fields


def test_more_fields_can_be_kept_for_trusted_proxies(balance, backend):
    """What a proxy in front says in words of its own must not come from a client."""
    config = FieldConfig(dropped=("X-Auth-User",))
    fields = (b"x-auth-user: 1", b"X_Auth_User: 2", b"X-Auth-Use: 3")

    assert passed(balance, backend, *fields, config=config) == [b"X-Auth-Use: 3"]
    assert passed(balance, backend, *fields, config=config, trusted=TRUSTED) == [
        b"x-auth-user: 1",
        b"X-Auth-Use: 3",
    ]
