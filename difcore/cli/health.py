"""Is all well here? What there is to run on and what is missing; known numbers, computed again."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import distributions, requires

import typer

from difcore.cli import options as opt
from difcore.cli.output import answer, table
from difcore.files import DATA_DIR, PROJECT_DIR, read_registry, sha256_file

PREPARE = PROJECT_DIR / "run_all.sh"
INSTALL = f"{PREPARE} --help" if PREPARE.is_file() else f"{sys.executable} -m pip install --force-reinstall difcore"
RESTORE = f"git -C {PROJECT_DIR} checkout -- data" if (PROJECT_DIR / ".git").exists() else INSTALL
LEAST = 10**9  # bytes of memory, and of disk, that should be free


def doctor(as_json: opt.AsJson = False) -> None:
    """Say what there is to run on and what is missing, with the command that mends it; exit code 1 if nothing works."""
    from difcore.images.sources import locate

    # Name, what is looked at, the command that mends it, whether nothing works without it.
    checks = (
        ("versions", versions, INSTALL, True), ("processor", processor, "unset DIFCORE_DEVICE DIFCORE_PRECISION", True),
        ("room", room, "difcore cache clear; or close other programs, and run with --jobs 1", False),
        ("kernel", kernel, f"{sys.executable} -m ipykernel install --sys-prefix", True),
        ("release", locate, "difcore fetch", False), ("weights", weights, RESTORE, True),
        ("cache", cache, "export DIFCORE_CACHE=FOLDER that can be written", True),
    )  # fmt: skip
    rows, shown = [], table("check", "state", "found")
    for name, look, mend, needed in checks:
        row = {"check": name, "state": "ok", "found": "", "mend": None}
        try:
            row["found"] = str(look())
        except (OSError, ValueError, LookupError, RuntimeError, ImportError) as error:
            row |= {"state": "broken" if needed else "missing", "found": str(error).strip("'\""), "mend": mend}
        shown.add_row(name, row["state"], f"{row['found']}\n-> {row['mend']}".removesuffix("\n-> None"))
        rows.append(row)
    broken = any(row["state"] == "broken" for row in rows)
    answer({"command": "doctor", "healthy": not broken, "checks": rows}, as_json, shown)
    raise typer.Exit(int(broken))


def selftest(device: opt.Device = "auto", precision: opt.Precision = "auto", as_json: opt.AsJson = False) -> None:
    """Compute known numbers of own images again, in seconds; exit code 1 if one is outside its tolerance."""
    from difcore.experiments.selftest import beside_pinned
    from difcore.runtime import resolve

    runtime = resolve(device, precision)
    found = beside_pinned(runtime)
    right = f"\n{found.ok.sum()} of {len(found)} right, on {runtime.device} in {runtime.precision}"
    document = {"command": "selftest", "passed": found.ok.all(), **runtime.facts(), "checks": found.to_dict("records")}
    answer(document, as_json, found.to_string(index=False, float_format="{:.6g}".format), right)
    raise typer.Exit(int(not found.ok.all()))


def versions() -> str:
    """Of what numbers depend on; LookupError names the dependencies that are not installed."""
    from difcore.records.artefacts import versions as recorded

    names = [re.split(r"[^\w.-]", one)[0] for one in requires("difcore") or () if "extra ==" not in one]
    there = {(each.name or "").lower().replace("_", "-") for each in distributions()}  # some are damaged
    if absent := [name for name in names if name.lower().replace("_", "-") not in there]:
        raise LookupError(f"not installed: {', '.join(absent)}")
    return ", ".join(f"{name} {number}" for name, number in recorded().items())


def processor() -> str:
    """Its name, cores and threads; the device and the precision that "auto" takes, and a probe's timing of them."""
    from difcore.machine.devices import processor_name
    from difcore.runtime import filter_layers, resolve, timed

    found, cores = resolve(), f"{processor_name()}, {os.cpu_count()} cores"
    work = filter_layers(found.device, found.engine)
    layers = 1000 * min(timed(work, False, found.device) for _ in range(4))
    ratio = f", bfloat16 {found.ratio:.2f} times as fast" if found.ratio else ""
    took = f"three layers of the filter in {layers:.1f} ms in float32 by {found.engine}"
    told = f"{found.precision} ({found.method}; {took}{ratio})"
    return f"{cores}, {found.threads} threads; device {found.device} ({found.processor}), {told}"


def room() -> str:
    """Memory of the machine, and disk where the cache lies or will; LookupError if less than ``LEAST`` is free."""
    import psutil

    from difcore.machine.cache import cache_root, size_text

    memory, places = psutil.virtual_memory(), (cache_root(), *cache_root().parents)
    usage = shutil.disk_usage(next(place for place in places if place.exists()))
    if min(memory.available, usage.free) < LEAST:
        raise LookupError(f"{size_text(memory.available)} of memory free, {size_text(usage.free)} of disk")
    sizes = map(size_text, (memory.available, memory.total, usage.free, usage.total))
    return "memory: {} free of {}; disk: {} free of {}".format(*sizes)


def kernel() -> str:
    """The program of Jupyter's; LookupError if it is not there."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    program = sys.executable if re.fullmatch(r"python[\d.]*", program) else program  # as jupyter_client takes it
    if shutil.which(program) is None:
        raise LookupError(f"python3 is to start {program}, which is not there")
    return program


def weights() -> str:
    """How many there are; LookupError names those that are missing or have another hash."""
    registry = read_registry(DATA_DIR / "weights_registry.txt")
    wrong = [n for n, h in registry.items() if not (DATA_DIR / n).is_file() or sha256_file(DATA_DIR / n) != h]
    if wrong:
        raise LookupError(f"missing, or with another SHA-256: {', '.join(wrong)}")
    return f"{len(registry)} files, each with its SHA-256, in {DATA_DIR}"


def cache() -> str:
    """Its folder, which can be written, its size and limit."""
    from difcore.machine.cache import cache_limit, cache_root, needed_folder, size_text, survey

    needed_folder("probes")
    return f"{cache_root()}: {size_text(sum(kind['bytes'] for kind in survey()))} of {size_text(cache_limit())}"
