"""What control groups allow, wherever their files are mounted."""

from pathlib import Path

import pytest

from fastlb.control.cgroup import cpu_limit, memory_limit

MIB = 2**20
UNLIMITED = "9223372036854771712"


class Machine:
    """A made-up /proc/self and the trees that it names."""

    def __init__(self, room: Path) -> None:
        self.proc = room / "proc"
        self.proc.mkdir()
        self._room = room
        self._mounts: list[str] = ["24 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw"]

    def mount(self, kind: str, options: str, *, root: str = "/", at: str = "cgroup") -> Path:
        """Mount a hierarchy; gives its directory."""
        where = self._room / at
        where.mkdir(parents=True, exist_ok=True)
        shown = str(where).replace(" ", "\\040")
        self._mounts.append(f"31 23 0:28 {root} {shown} rw,relatime shared:9 - {kind} {kind} {options}")
        (self.proc / "mountinfo").write_text("\n".join(self._mounts) + "\n")
        return where

    def is_in(self, *lines: str) -> None:
        """The groups of this process."""
        (self.proc / "cgroup").write_text("\n".join(lines) + "\n")


def write(group: Path, name: str, text: str) -> None:
    """A file of a group."""
    group.mkdir(parents=True, exist_ok=True)
    (group / name).write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path) -> Machine:
    """A machine without control groups, until they are mounted."""
    return Machine(tmp_path)


def test_without_control_groups_there_is_no_limit(machine):
    """Other systems, and kernels without them."""
    assert memory_limit(machine.proc) is None
    assert cpu_limit(machine.proc) is None


@pytest.mark.parametrize("at", ["cgroup", "with space"])
def test_least_limit_on_the_way_up_counts(machine, at):
    """systemd puts the limit on a slice, the process is in a service two groups below."""
    top = machine.mount("cgroup2", "rw", at=at)
    machine.is_in("0::/system.slice/fastlb.service")
    write(top / "system.slice", "memory.max", str(200 * MIB))
    write(top / "system.slice", "cpu.max", "150000 100000")
    write(top / "system.slice/fastlb.service", "memory.max", str(300 * MIB))
    write(top / "system.slice/fastlb.service", "cpu.max", "max 100000")

    assert memory_limit(machine.proc) == 200 * MIB
    assert cpu_limit(machine.proc) == 2


def test_memory_above_which_the_kernel_slows_a_group_down_is_a_limit(machine):
    """memory.high, which systemd calls MemoryHigh."""
    top = machine.mount("cgroup2", "rw")
    machine.is_in("0::/a")
    write(top / "a", "memory.max", "max")
    write(top / "a", "memory.high", str(100 * MIB))

    assert memory_limit(machine.proc) == 100 * MIB


def test_version_1_has_a_tree_for_each_controller(machine):
    """With a number for "no limit", and a quota of -1."""
    memory = machine.mount("cgroup", "rw,memory", at="v1/memory")
    cpu = machine.mount("cgroup", "rw,cpu,cpuacct", at="v1/cpu,cpuacct")
    machine.mount("cgroup2", "rw", at="v1/unified")
    machine.is_in("4:memory:/docker/x", "3:cpu,cpuacct:/docker/x", "1:name=systemd:/docker/x", "0::/")
    write(memory, "memory.limit_in_bytes", UNLIMITED)
    write(memory / "docker", "memory.limit_in_bytes", str(150 * MIB))
    write(memory / "docker/x", "memory.limit_in_bytes", UNLIMITED)
    write(cpu / "docker", "cpu.cfs_quota_us", "50000")
    write(cpu / "docker", "cpu.cfs_period_us", "100000")
    write(cpu / "docker/x", "cpu.cfs_quota_us", "-1")
    write(cpu / "docker/x", "cpu.cfs_period_us", "100000")

    assert memory_limit(machine.proc) == 150 * MIB
    assert cpu_limit(machine.proc) == 1


@pytest.mark.parametrize("told", ["/docker/x", "/docker/x/child", "/elsewhere", "/"])
def test_mount_may_begin_at_the_group_of_the_container(machine, told):
    """Without a namespace of its own a container sees paths of the host, but mounts of its own group."""
    top = machine.mount("cgroup", "rw,memory", root="/docker/x")
    machine.is_in(f"4:memory:{told}")
    write(top, "memory.limit_in_bytes", str(64 * MIB))

    assert memory_limit(machine.proc) == 64 * MIB


@pytest.mark.parametrize("text", ["", "nonsense", "100000 0", "-1 100000", "100000"])
def test_quota_that_makes_no_sense_is_none(machine, text):
    """What is not understood limits nothing."""
    top = machine.mount("cgroup2", "rw")
    machine.is_in("0::/")
    write(top, "cpu.max", text)

    assert cpu_limit(machine.proc) is None
