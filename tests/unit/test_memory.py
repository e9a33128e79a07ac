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


@pytest.mark.parametrize(("text", "found"), [("33554432\n", 32 * MIB), ("max\n", None), ("", None)])
def test_limit_of_a_container_counts_as_its_memory(tmp_path, monkeypatch, text, found):
    """The kernel would end the process at that limit, whatever the machine has."""
    monkeypatch.setattr(memory, "_CGROUP_LIMIT", tmp_path / "memory.max")
    whole = machine_memory()
    (tmp_path / "memory.max").write_text(text)

    assert machine_memory() == (found or whole)
