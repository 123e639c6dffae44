"""What this process may use: affinity, control groups and SLURM, each as the system writes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sg_ray.cluster.placing.admission import processors
from sg_ray.host import slurm_limits
from sg_ray.host.cpus import Cpus, count_cpus, num_cpus
from sg_ray.host.memory import count_memory
from sg_ray.host.process_limits import room_for_processes

GIB = 2**30

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1_CPU_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY_MOUNT = "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


def machine(root: Path, group: str, mount: str, files: dict[str, str]) -> Path:
    """Lay out a file system with one process's group, a mount, and the limits in ``files``."""
    for name, text in {
        "proc/self/cgroup": group + "\n",
        "proc/self/mountinfo": mount + "\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(12)))


QUOTAS = {
    "version 2": ("0::/", V2_MOUNT, {"cpu.max": "300000 100000\n"}, 3),
    "version 2 without a limit": ("0::/", V2_MOUNT, {"cpu.max": "max 100000\n"}, 12),
    "rounded down": ("0::/", V2_MOUNT, {"cpu.max": "250000 100000\n"}, 2),
    "less than one": ("0::/", V2_MOUNT, {"cpu.max": "20000 100000\n"}, 1),
    "more than the affinity": ("0::/", V2_MOUNT, {"cpu.max": "1400000 100000\n"}, 12),
    "of the group that encloses": (
        "0::/slice/job",
        V2_MOUNT,
        {"slice/job/cpu.max": "max 100000\n", "slice/cpu.max": "200000 100000\n"},
        2,
    ),
    "the least of those that enclose": (
        "0::/slice/job",
        V2_MOUNT,
        {"slice/job/cpu.max": "400000 100000\n", "slice/cpu.max": "800000 100000\n"},
        4,
    ),
    "in a container with the path of its host": (
        "4:cpu,cpuacct:/docker/0123",
        V1_CPU_MOUNT.replace(" / ", " /docker/0123 "),
        {"cpu,cpuacct/cpu.cfs_quota_us": "500000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        5,
    ),
    "in a container that does not see its group": (
        "0::/../../other",
        V2_MOUNT,
        {"cpu.max": "700000 100000\n"},
        7,
    ),
    "version 1": (
        "4:cpuacct,cpu:/job",
        V1_CPU_MOUNT,
        {
            "cpu,cpuacct/job/cpu.cfs_quota_us": "150000\n",
            "cpu,cpuacct/job/cpu.cfs_period_us": "50000\n",
        },
        3,
    ),
    "version 1 without a limit": (
        "4:cpuacct,cpu:/",
        V1_CPU_MOUNT,
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        12,
    ),
    "what nobody understands": ("nonsense", "nonsense", {"cpu.max": "what?\n"}, 12),
    "a damaged limit": ("0::/", V2_MOUNT, {"cpu.max": "0 0\n"}, 12),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_c13_quotas_of_control_groups_count(case: str, tmp_path: Path) -> None:
    group, mount, files, expected = QUOTAS[case]
    root = machine(tmp_path, group, mount, files)
    assert count_cpus(root, {}) == Cpus(expected, 16)


JOBS = {
    "a task": ({"SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, 4),
    "a node": ({"SLURM_CPUS_ON_NODE": "8"}, 8),
    "a job's first node": ({"SLURM_JOB_CPUS_PER_NODE": "8(x2),4"}, 8),
    "a job's last node": ({"SLURM_JOB_CPUS_PER_NODE": "8(x2),4", "SLURM_NODEID": "2"}, 4),
    "a node that is not of the job": ({"SLURM_JOB_CPUS_PER_NODE": "8", "SLURM_NODEID": "9"}, None),
    "many nodes": (
        {"SLURM_JOB_CPUS_PER_NODE": "6(x999999999),2", "SLURM_NODEID": "999999999"},
        2,
    ),
    "no job": ({}, None),
    "nonsense": (
        {"SLURM_CPUS_PER_TASK": "-2", "SLURM_CPUS_ON_NODE": "", "SLURM_NODEID": "x"},
        None,
    ),
    "no limit": ({"SLURM_CPUS_PER_TASK": "0"}, None),
}


@pytest.mark.parametrize("case", JOBS)
def test_c13_what_slurm_grants_counts(case: str, tmp_path: Path) -> None:
    environ, expected = JOBS[case]
    assert slurm_limits.num_cpus(environ) == expected
    assert count_cpus(tmp_path, environ).num_usable == (expected or 12)


def test_the_count_says_what_the_process_may_use() -> None:
    assert str(Cpus(1, 2)) == "1 CPU (of 2: this process may use 1)"
    assert str(Cpus(2, 2)) == "2 CPUs"
    assert str(Cpus(1, 1)) == "1 CPU"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_case_42_a_process_bound_to_one_cpu_counts_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: what ``taskset`` sets is what trials are fitted into."""
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from sg_ray.host.cpus import num_cpus; print(num_cpus())"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "1\n", ended.stderr
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert processors()["CPU"] == num_cpus() == 1


MEMORY = {
    "version 2": ("0::/", V2_MOUNT, {"memory.max": f"{GIB}\n"}, {}, GIB),
    "version 2 without a limit": ("0::/", V2_MOUNT, {"memory.max": "max\n"}, {}, None),
    "version 1, enclosing": (
        "9:memory:/job/step",
        V1_MEMORY_MOUNT,
        {
            "memory/job/step/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/job/memory.limit_in_bytes": f"{GIB // 2}\n",
        },
        {},
        GIB // 2,
    ),
    "slurm": ("", "", {}, {"SLURM_MEM_PER_NODE": "512"}, GIB // 2),
    "slurm by the CPU": (
        "",
        "",
        {},
        {"SLURM_MEM_PER_CPU": "128", "SLURM_CPUS_ON_NODE": "4"},
        GIB // 2,
    ),
    "slurm without a limit": ("", "", {}, {"SLURM_MEM_PER_NODE": "0"}, None),
}


@pytest.mark.parametrize("case", MEMORY)
def test_c13_limits_of_memory_count(case: str, tmp_path: Path) -> None:
    group, mount, files, environ, expected = MEMORY[case]
    memory = count_memory(machine(tmp_path, group, mount, files), environ)
    assert memory.is_limited == (expected is not None)
    assert memory.usable_bytes == (expected or memory.present_bytes)


def test_e02_a_container_that_allows_few_processes_is_named(tmp_path: Path) -> None:
    mount = "34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"
    files = {"pids/pids.max": "100\n", "pids/pids.current": "60\n"}
    room = room_for_processes(machine(tmp_path, "8:pids:/", mount, files))
    assert room is not None
    assert room.num_left == 40
    assert room.limit.endswith("pids/pids.max 100")
