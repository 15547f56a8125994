from pathlib import Path

import pytest

from audiomos_cache.devices import available_ram


def write_system(root: Path, available_kib: int | None, groups: dict[str, tuple[str, int, int]]) -> Path:
    """Make the files in which Linux reports memory; groups: name -> limit, used, inactive files."""
    (root / "proc/self").mkdir(parents=True)
    line = f"MemAvailable: {available_kib:9} kB\n" if available_kib is not None else ""
    (root / "proc/meminfo").write_text(f"MemTotal:       24000000 kB\n{line}Buffers:  10 kB\n")
    (root / "proc/self/cgroup").write_text("4:memory:/elsewhere\n0::/slice/job\n")
    for name, (limit, used, inactive) in groups.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\nactive_file 7\n")
    return root


@pytest.mark.parametrize(
    ("available_kib", "groups", "expected"),
    [
        (1000, {}, 1_024_000),
        (1000, {"slice/job": ("max", 5, 0)}, 1_024_000),
        (1000, {"slice/job": ("9000", 5000, 0)}, 4000),
        (1000, {"slice/job": ("9000", 5000, 300)}, 4300),
        (1000, {"slice/job": ("9000", 9500, 0)}, 0),
        (1000, {"slice/job": ("9000", 5000, 0), "slice": ("9000", 8000, 0)}, 1000),
        (1000, {"slice/other": ("9000", 8000, 0)}, 1_024_000),
        (1000, {"": ("9000", 8000, 0)}, 1000),
        (1000, {"slice/job": ("90000000", 0, 0)}, 1_024_000),
        (None, {"slice/job": ("9000", 5000, 0)}, 0),
    ],
)
def test_available_ram_is_the_machines_or_the_cgroups(
    tmp_path: Path, available_kib: int | None, groups: dict[str, tuple[str, int, int]], expected: int
) -> None:
    assert available_ram(write_system(tmp_path, available_kib, groups)) == expected


def test_without_proc_no_ram_is_known_to_be_free(tmp_path: Path) -> None:
    assert available_ram(tmp_path) == 0
    assert available_ram() >= 0
