"""Retries are a share of the requests: a pool that fails must not be asked twice as often."""

import pytest

from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Pick
from support.backend import OK, answering

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SECOND = 1000
# Three a second over ten seconds.
ALWAYS = 30


def spent(budget, now_ms, exchanges, asked=1000):
    """How many of so many retries asked for at one instant were allowed."""
    return sum(budget.spend(now_ms, exchanges) for _ in range(asked))


def test_three_retries_a_second_are_always_allowed(engine):
    """A quiet service has no share to speak of, and its clients deserve a retry too."""
    assert spent(engine.RetryBudget(20, 0), 0, 0) == ALWAYS


def test_retries_are_a_share_of_the_requests_of_the_last_ten_seconds(engine):
    """20 % of a thousand."""
    assert spent(engine.RetryBudget(20, 0), 5 * SECOND, 1000) == 200


def test_requests_of_longer_ago_do_not_count(engine):
    """A million requests an hour ago allow nothing now: they are taken as evenly spread."""
    assert spent(engine.RetryBudget(20, 0), 1000 * SECOND, 100_000) == 200


def test_retries_of_longer_ago_do_not_count(engine):
    """What was spent comes back ten seconds later, second by second."""
    budget = engine.RetryBudget(20, 0)
    assert spent(budget, 1 * SECOND, 0, asked=20) == 20
    assert spent(budget, 5 * SECOND, 0) == 10
    assert spent(budget, 10 * SECOND + 999, 0) == 0
    assert spent(budget, 11 * SECOND, 0) == 20
    assert spent(budget, 15 * SECOND, 0) == 10


def test_share_follows_the_load(engine):
    """The window moves with each second that has a retry; requests between two samples are even."""
    budget = engine.RetryBudget(10, 0)
    for n in range(1, 60):
        budget.spend(n * SECOND, n * 1000)

    assert spent(budget, 60 * SECOND, 60_000) == 1000 - 9  # one was spent in each of nine seconds before


def test_seconds_without_a_retry_leave_no_stale_slot(engine):
    """A slot is used again after ten seconds; what stood in it must not be read as new."""
    budget = engine.RetryBudget(50, 0)
    assert spent(budget, 3 * SECOND, 1000) == 500
    assert spent(budget, 24 * SECOND, 1000) == ALWAYS
    assert spent(budget, 26 * SECOND, 2000) == 500 - ALWAYS


def test_requests_read_a_moment_too_early_take_nothing_away(engine):
    """Two workers may add up the requests in one order and ask in the other."""
    if engine.name == "pure":
        pytest.skip("the pure engine has one thread")
    budget = engine.RetryBudget(20, 0)

    assert budget.spend(5 * SECOND, 1000)
    assert spent(budget, 5 * SECOND, 990) == 199


def test_no_budget_allows_everything(engine):
    """`off`."""
    assert spent(engine.RetryBudget(None, 0), 0, 0, asked=10_000) == 10_000


def test_budget_of_zero_percent_keeps_the_least(engine):
    """The share is added to nothing; the three a second stay."""
    assert spent(engine.RetryBudget(0, 0), 5 * SECOND, 1_000_000) == ALWAYS


def ask(client):
    client.send(GET)
    return client.response().status


def test_refused_connects_beyond_the_budget_end_with_their_own_code(balance, backend, refused):
    """Every other pick is refused: 30 requests are rescued, the next ones get the 502 of the refusal.
    In turn, because least connections would hardly ask a backend again that has just failed."""
    running = balance(refused, backend(answering(OK)), limits=LimitConfig(retry_percent=0), pick=Pick.CYCLE)
    client = running.connect()
    statuses = []
    while statuses.count(502) < 5 and len(statuses) < 500:
        statuses.append(ask(client))
    ledger = running.ledger()

    assert ledger.retries == ALWAYS
    assert ledger.retries_denied == 5
    assert statuses.count(502) == 5
    line = next(line for line in running.lines(len(statuses)) if line["status"] == 502)
    assert (line["code"], line["tries"], line["backend"]) == ("SC", 1, f"127.0.0.1:{refused.port}")


def test_budget_is_one_for_all_workers(balance, backend, refused):
    """Each connection stays with its worker; a budget for each would allow as many times more."""
    running = balance(
        refused,
        backend(answering(OK)),
        workers=3,
        limits=LimitConfig(retry_percent=0),
        pick=Pick.CYCLE,
    )
    clients = [running.connect() for _ in range(9)]
    statuses = [ask(clients[n % 9]) for n in range(150)]

    assert 502 in statuses
    assert running.ledger().retries == ALWAYS


def closing_each_time(link):
    """Every request but the first one of a connection is answered by its end."""
    if link.request() is not None:
        link.send(OK)
        link.request()


def test_stale_connections_need_no_budget(balance, backend):
    """A backend that closes each kept connection in the face of its next request: no storm, and no
    reason for a 502."""
    running = balance(backend(closing_each_time), limits=LimitConfig(retry_percent=0))
    client = running.connect()
    asked = 2 * ALWAYS

    assert [ask(client) for _ in range(asked)] == [200] * asked
    assert (running.ledger().retries, running.ledger().retries_denied) == (asked - 1, 0)


def test_broken_connections_beyond_the_budget_are_502(balance, backend):
    """A backend that takes requests and drops them on fresh connections."""

    def breaking(link):
        link.request()

    def healthy(link):
        if link.request() is not None:
            link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    running = balance(
        backend(breaking), backend(healthy), limits=LimitConfig(retry_percent=0), pick=Pick.CYCLE
    )
    client = running.connect()
    statuses = []
    while 502 not in statuses and len(statuses) < 500:
        statuses.append(ask(client))

    assert (running.ledger().retries, running.ledger().retries_denied) == (ALWAYS, 1)
    line = running.lines(len(statuses))[-1]
    assert (line["code"], line["tries"]) == ("SH", 1)


def test_budget_off_retries_without_end(balance, backend, refused):
    """As before there was a budget."""
    running = balance(
        refused, backend(answering(OK)), limits=LimitConfig(retry_percent=None), pick=Pick.CYCLE
    )
    client = running.connect()

    assert {ask(client) for _ in range(200)} == {200}
    assert running.ledger().retries > ALWAYS
    assert running.ledger().retries_denied == 0


def test_request_without_another_backend_spends_nothing(balance, refused):
    """There is nothing to retry on, so nothing is denied."""
    running = balance(refused, limits=LimitConfig(retry_percent=0))
    client = running.connect()

    assert {ask(client) for _ in range(40)} == {502}
    assert (running.ledger().retries, running.ledger().retries_denied) == (0, 0)
