"""The layout: arrows between rooms point one way, few modules lie in the root, and no name stands twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from importlinter.cli import lint_imports

from difcore.files import PROJECT_DIR

PACKAGE = PROJECT_DIR / "difcore"


def modules(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]


def test_arrows_between_rooms_point_one_way() -> None:
    assert lint_imports(config_filename=str(PROJECT_DIR / "pyproject.toml"), no_cache=True) == 0


def test_few_modules_lie_in_the_root_and_no_name_stands_twice() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6
    assert [name for name, count in Counter(path.name for path in modules(PACKAGE)).items() if count > 1] == []


def test_every_room_says_what_it_holds() -> None:
    rooms = {path.parent for path in modules(PACKAGE)} - {PACKAGE}
    assert [room.name for room in rooms if not (room / "__init__.py").read_text("utf-8").startswith('"""')] == []
