"""What `--workers auto` stands for."""

import os

import pytest

from fastlb.surface import cpus
from fastlb.surface.cpus import usable_cpus


@pytest.mark.parametrize(("quota", "count"), [(None, 8), (1, 1), (2, 2), (8, 8), (100, 8)])
def test_quota_of_a_container_lowers_the_count(monkeypatch, quota, count):
    """64 threads on two paid CPUs would spend their time waiting for each other."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "cpu_limit", lambda: quota)

    assert usable_cpus() == count


def test_this_machine_has_a_cpu():
    """Whatever /sys says here, at least one worker runs."""
    assert usable_cpus() >= 1
