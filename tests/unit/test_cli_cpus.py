"""What `--workers auto` stands for."""

import pytest

from fastlb.surface import cpus
from fastlb.surface.cpus import cpus_within, usable_cpus


@pytest.mark.parametrize(
    ("affinity", "quota", "cpus"),
    [
        (8, "max 100000\n", 8),
        (8, "200000 100000\n", 2),
        (8, "150000 100000\n", 2),
        (8, "10000 100000\n", 1),
        (2, "800000 100000\n", 2),
        (8, "", 8),
        (8, "nonsense", 8),
        (8, "100000 0", 8),
    ],
)
def test_quota_of_a_container_lowers_the_count(affinity, quota, cpus):
    """64 threads on two paid CPUs would spend their time waiting for each other."""
    assert cpus_within(affinity, quota) == cpus


def test_this_machine_has_a_cpu():
    """Whatever /sys says here, at least one worker runs."""
    assert usable_cpus() >= 1


def test_quota_is_read_where_the_kernel_tells_it(tmp_path, monkeypatch):
    """cgroup v2; without the file there is no quota."""
    told = tmp_path / "cpu.max"
    monkeypatch.setattr(cpus, "_CGROUP_CPU_MAX", told)
    without = usable_cpus()
    told.write_text("50000 100000\n")

    assert without >= 1
    assert usable_cpus() == 1
