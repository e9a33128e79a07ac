"""Smooth weighted round robin: the table that CYCLE and RANDOM plans carry."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlb.balancing.smooth_weighted import scale, smooth_sequence

weights_lists = st.lists(st.integers(1, 12), min_size=1, max_size=12)


def nginx_round(weights: tuple[int, ...]) -> tuple[int, ...]:
    """The algorithm as nginx states it, with no thought for speed."""
    credit = [0] * len(weights)
    picks = []
    for _ in range(sum(weights)):
        credit = [have + weight for have, weight in zip(credit, weights, strict=True)]
        best = max(range(len(weights)), key=lambda index: (credit[index], -index))
        credit[best] -= sum(weights)
        picks.append(best)
    return tuple(picks)


def test_weights_5_1_1_are_interleaved():
    """The example of the algorithm's description: the heavy one never takes five in a row."""
    assert smooth_sequence([5, 1, 1]) == (0, 0, 1, 0, 2, 0, 0)


@given(weights_lists)
def test_the_round_is_that_of_nginx(weights):
    """Comparing one member of each weight must not change a single pick."""
    assert smooth_sequence(weights) == nginx_round(scale(weights, 65_536))


@given(weights_lists)
def test_each_is_picked_as_often_as_its_reduced_weight(weights):
    """A share that is off by one pick is off in every round, for ever."""
    reduced = scale(weights, 65_536)

    assert Counter(smooth_sequence(weights)) == dict(enumerate(reduced))


def test_a_common_divisor_does_not_lengthen_the_round():
    """Weights 100 and 200 are 1 and 2; a table of 300 steps would be waste."""
    assert smooth_sequence([100, 200]) == (1, 0, 1)


def test_equal_weights_are_picked_in_order():
    """Round robin without weights is a plain rotation."""
    assert smooth_sequence([7, 7, 7]) == (0, 1, 2)


def test_nobody_gives_no_round():
    """A pool that is all down has an empty table."""
    assert smooth_sequence([]) == ()


@given(st.lists(st.integers(1, 256), min_size=1, max_size=40), st.integers(40, 500))
def test_a_long_round_is_scaled_to_its_limit_and_loses_nobody(weights, limit):
    """A light backend next to heavy ones keeps a share when the table has to be shortened."""
    scaled = scale(weights, limit)

    assert sum(scaled) <= limit
    assert min(scaled) >= 1
    by_weight = [steps for _, steps in sorted(zip(weights, scaled, strict=True))]
    assert by_weight == sorted(by_weight), "a heavier backend has fewer steps"


def test_a_whole_pool_of_65536_fits():
    """One step each is the least that the largest pool needs."""
    assert len(scale([1] * 65_535 + [256], 65_536)) == 65_536
    assert sum(scale([1] * 65_535 + [256], 65_536)) == 65_536


@pytest.mark.parametrize("weights", [[0], [1, 0], [-1]])
def test_a_weight_below_1_is_refused(weights):
    """A backend without weight has no place in a table; whoever asks for one has a fault."""
    with pytest.raises(ValueError, match="1 or more"):
        smooth_sequence(weights)


def test_more_weights_than_steps_are_refused():
    """Each needs one step at least."""
    with pytest.raises(ValueError, match="do not fit"):
        smooth_sequence([1, 1, 1], steps_max=2)
