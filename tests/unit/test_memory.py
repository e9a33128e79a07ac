"""The memory for buffers that follows from the machine's."""

import pytest

import fastlb.control.memory as memory
from fastlb.control.memory import buffer_limit, machine_memory

MIB = 2**20


@pytest.mark.parametrize(
    ("machine", "workers", "limit"),
    [(8192 * MIB, 2, 2048 * MIB), (64 * MIB, 1, 64 * MIB), (64 * MIB, 80, 80 * MIB)],
)
def test_buffers_get_a_quarter_of_the_memory_and_enough_to_work(machine, workers, limit):
    """A small machine still has to carry requests."""
    assert buffer_limit(machine, workers) == limit


def test_limit_of_a_container_counts_as_its_memory(monkeypatch):
    """The kernel would end the process at that limit, whatever the machine has."""
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    whole = machine_memory()
    monkeypatch.setattr(memory, "memory_limit", lambda: 32 * MIB)

    assert machine_memory() == 32 * MIB
    monkeypatch.setattr(memory, "memory_limit", lambda: 2 * whole)
    assert machine_memory() == whole
