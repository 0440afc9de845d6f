"""The processor's name, for records: of two machines that give different times, which is which."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path


def processor_facts() -> dict[str, str]:
    """What /proc/cpuinfo says of the first core; empty where there is none."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
        pairs = (line.partition(":") for line in text.splitlines())
        return {name.strip().lower(): value.strip() for name, _, value in pairs}
    return {}


@cache
def processor_name() -> str:
    """The CPU's model as the system calls it ("AMD EPYC 7B13", say); its architecture where the system does not say."""
    facts = processor_facts()
    return facts.get("model name") or facts.get("hardware") or platform.processor() or platform.machine() or "unknown"
