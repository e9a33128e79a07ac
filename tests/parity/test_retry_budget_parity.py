"""The retry budget is one decision written twice."""


def test_both_engines_decide_alike(both):
    """One decision in two languages, on the same history."""
    budgets = [rooms.RetryBudget(20, 500) for rooms in both.values()]
    now_ms, exchanges, state = 500, 0, 1
    answers = [[], []]
    for _ in range(20_000):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        now_ms += state % 97 if state % 50 else state % 20_000
        exchanges += state % 11
        for budget, given in zip(budgets, answers, strict=True):
            given.append(budget.spend(now_ms, exchanges))

    assert answers[0] == answers[1]
    assert set(answers[0]) == {True, False}
