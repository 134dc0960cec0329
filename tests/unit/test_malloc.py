"""Freed memory stays in the process until it is given back; measured in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from fhi_al.process import malloc

# Prints whether memory is kept, and what is resident in MiB: at the start, after an array of
# 128 MiB was freed, after memory was given back, less than there is and all there is, after another
# array was freed, when memory is no longer kept, and after yet another array was freed.
PROGRAM = """
import json
from contextlib import nullcontext
from pathlib import Path
import numpy as np
from fhi_al.process import malloc

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def free_an_array(n_numbers=2**24):
    array = np.ones(n_numbers)
    barriers.append(np.ones(2**18))  # 2 MiB: the free memory is not at the end of the heap
    del array
    found.append(resident())

found, barriers = [resident()], []
with malloc.freed_memory_kept() if KEEP else nullcontext(False) as kept:
    free_an_array()
    malloc.give_back_freed_memory()
    found.append(resident())
    malloc.give_back_freed_memory(at_least=2**26)
    found.append(resident())
    free_an_array()
found.append(resident())
free_an_array(2**25)  # no hole in the heap holds it
print(json.dumps([kept, found]))
"""

needs_glibc = pytest.mark.skipif(malloc._libc() is None, reason="needs glibc 2.33")


def resident(keep: bool, **environment: str) -> tuple[bool, list[float]]:
    """What PROGRAM prints; memory relative to the start."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("KEEP", str(keep))],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    kept, found = json.loads(done.stdout)
    return kept, [value - found[0] for value in found[1:]]


@needs_glibc
def test_freed_memory_is_kept_until_much_of_it_is_given_back():
    kept, (freed, too_little, given_back, *_) = resident(True)
    assert kept
    assert freed > 120
    assert too_little > 120  # 128 MiB are not worth it
    assert given_back < 30


@needs_glibc
def test_afterwards_memory_is_given_back_as_before():
    _, (*_, freed, left, freed_afterwards) = resident(True)
    assert freed > 120
    assert left < 30
    assert freed_afterwards < 30


@needs_glibc
def test_without_it_the_c_library_gives_back_what_is_freed():
    _, (freed, *_) = resident(False)
    assert freed < 30


@needs_glibc
def test_what_the_user_set_in_the_environment_stays():
    kept, (freed, *_) = resident(True, MALLOC_MMAP_THRESHOLD_="1000000")
    assert not kept
    assert freed < 30
