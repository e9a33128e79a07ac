"""The memory for buffers that follows from the machine's."""

import resource

import pytest

import fastlb.control.memory as memory
from fastlb.control.memory import address_space, buffer_limit, clients_limit, machine_memory

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


def test_limited_address_space_has_room_for_all_that_may_be_held(monkeypatch):
    """An interpreter whose allocations fail does not live on, so everything together stays below."""
    space = 160 * MIB
    limits = {resource.RLIMIT_AS: space, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    assert address_space() == space
    buffers = buffer_limit(8192 * MIB, 1, space)

    assert (buffers, clients_limit(space)) == (20 * MIB, 224)
    assert clients_limit(8 * MIB) == 1
    assert buffer_limit(8192 * MIB, 4, 8 * MIB) == 4 * MIB


def test_address_space_without_a_limit_counts_for_nothing(monkeypatch):
    """As on most machines."""
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (infinite, infinite))

    assert address_space() is None
