"""What code a result depends on: a hash of a function's module and of the difcore modules that it imports."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from difcore.files import sha256_bytes, sha256_file

PARSING = Lock()  # before Python 3.11.8 and 3.12.2, two threads in ast.parse may fail: "recursion depth mismatch"


def code_digest(work: Callable[..., Any]) -> str:
    """SHA-256 of the source of ``work``'s module and of all difcore modules that it imports, directly or not."""
    function = work.func if isinstance(work, partial) else work
    source = inspect.getsourcefile(inspect.unwrap(function))
    waiting = [Path(source)] if source and Path(source).is_file() else []
    hashes: dict[Path, str] = {}
    while waiting:
        path = waiting.pop()
        if path not in hashes:
            hashes[path] = sha256_file(path)
            waiting += imported(path)
    return sha256_bytes(json.dumps([function.__qualname__, sorted(hashes.values())]).encode())


def imported(path: Path) -> list[Path]:
    """Files of the difcore modules that a Python file imports, anywhere in it."""
    with PARSING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = (module_file(name) for name in sorted(names) if name.split(".")[0] == "difcore")
    return [path for path in found if path is not None]


def module_file(name: str) -> Path | None:
    """Source of a module, or None where the name is not one (a function of a module, say)."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None
