"""What a process frees stays with it, where the commands run."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")

# Blocks above and below 32 MB, the most that malloc would keep by itself, in two threads.
_FAULTS = """
import ctypes, resource, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def step():
    for size in (3_000_000, 20_000_000, 50_000_000):
        blocks = [libc.malloc(ctypes.c_size_t(size)) for _ in range(2)]
        for block in blocks:
            ctypes.memset(ctypes.c_void_p(block), 1, size)
        for block in blocks:
            libc.free(block)

def steps(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        step()
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count

steps(2)
print(steps(5))
"""


def run(code: str, **variables: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


def test_a_step_finds_its_memory_where_the_last_one_left_it():
    by_default = float(run(_FAULTS)[-1])
    call = "from ktransformer.runtime import allocator\nprint(allocator.keep_freed_memory())\n"
    kept, faults = run(call + _FAULTS)
    assert kept == "True"
    assert by_default > 10_000  # Pages of 4 kB.
    assert float(faults) < 500


@pytest.mark.long
def test_the_training_command_keeps_it(tmp_path):
    absent = str(tmp_path / "absent")
    line = ["train", "--source", absent, "--target", absent, "--output", str(tmp_path / "run")]
    code = f"from ktransformer.cli import main\nassert main({line}) == 2\n"
    assert float(run(code + _FAULTS)[-1]) < 500


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX"])
def test_what_the_environment_says_stays(name):
    code = "from ktransformer.runtime import allocator\nprint(allocator.keep_freed_memory())\n"
    assert run(code, **{name: "2"}) == ["False"]
