"""Memory that the process keeps."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from difcore.residuals import denoisers

if not {keep}:
    denoisers.keep_freed_memory = lambda: False
filter = denoisers.FoldedDnCNN(denoisers.DnCNN().eval())
faults = []
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    filter(torch.zeros(1, 3, 276, 276))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults), sum(faults[3:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_kept_and_not_zeroed_again() -> None:
    """Once the first residuals of 256 px are made, none costs even one layer's page faults."""
    (kept, kept_later), (given_back, _) = (
        map(int, subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep)]).split())
        for keep in (True, False)
    )
    assert kept_later < 64 * 276**2 * 4 // resource.getpagesize()
    assert kept < given_back
