"""A plan that an engine could not index is refused where it is made, with the name of the value."""

import pytest

from fastlb.model.errors import ConfigError
from fastlb.model.limits import PLAN_TABLE_MAX, PLAN_WEIGHT_MAX
from fastlb.model.plan import Pick, Plan, PlanEntry


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((-1,), "plan.slot"),
        ((0, 0), "plan.weight"),
        ((0, PLAN_WEIGHT_MAX + 1), "plan.weight"),
        ((0, 1, -1), "plan.max_conns"),
    ],
)
def test_entry_refuses_nonsense(values, name):
    """Slots, weights and limits are what the engines' integers hold."""
    with pytest.raises(ConfigError) as error:
        PlanEntry(*values)

    assert name in str(error.value)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"entries": (PlanEntry(0), PlanEntry(0))}, "plan.entries"),
        ({"table": (0,) * (PLAN_TABLE_MAX + 1)}, "plan.table"),
        ({"table": (0, 1)}, "plan.table"),
        ({"pick": Pick.CYCLE}, "plan.table"),
        ({"pick": Pick.RANDOM}, "plan.table"),
    ],
)
def test_plan_refuses_what_cannot_be_indexed(changes, name):
    """The native engine reads the table without looking twice."""
    with pytest.raises(ConfigError) as error:
        Plan(**{"entries": (PlanEntry(0),), **changes})

    assert name in str(error.value)
