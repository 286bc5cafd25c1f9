"""What the process does with memory that it frees."""

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from babelgate.models.memory import keep_freed_memory
kept = keep_freed_memory()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16, 1024, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


def run(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=kept | extra, capture_output=True, text=True, check=True
    )
    said, faults = out.stdout.split()
    return said == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_large_blocks_are_not_asked_for_anew():
    kept, faults = run()
    assert kept
    left_alone, asked_again = run(MALLOC_ARENA_MAX="2")
    assert not left_alone
    # 20 tensors of 64 MiB: with 4 KiB pages 327,680 first touches when each is new.
    assert faults * 20 < asked_again
