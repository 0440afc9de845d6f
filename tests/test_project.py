"""The project itself: dependencies that agree, notebooks without outputs, small modules, imports without effects."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from difcore.files import PROJECT_DIR

NOTEBOOK_LINES = 70
MODULES = sorted((PROJECT_DIR / "difcore").rglob("*.py"))
NOTEBOOKS = sorted((PROJECT_DIR / "notebooks").glob("*.ipynb"))


def project_table() -> dict:
    return tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked() -> dict[str, str]:
    lines = (PROJECT_DIR / "requirements.lock").read_text(encoding="utf-8").split()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def tracked_files() -> list[Path]:
    """Files that git knows or would add; without git, all but what .gitignore names."""
    command = ["git", "-C", str(PROJECT_DIR), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone to know which files are the project's")
    return [PROJECT_DIR / name for name in names if (PROJECT_DIR / name).is_file()]


def test_the_lock_holds_every_dependency_within_its_range() -> None:
    project, versions = project_table(), locked()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(versions[name]), (
            f"{name}=={versions[name]} is not {requirement.specifier}"
        )
        assert requirement.specifier, f"{name} has no range in pyproject.toml"


def test_the_lock_is_exact_and_free_of_local_builds() -> None:
    for line in (PROJECT_DIR / "requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
    assert "difcore" not in locked()
    assert "setuptools" in locked()  # the editable install builds without isolation


def test_the_lock_is_complete() -> None:
    """Every installed package that the locked ones need is locked too, whatever the platform does not exclude."""
    versions = locked()
    for name in versions:
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                other = canonicalize_name(requirement.name)
                if name != "torch":  # its CUDA build needs packages that its CPU build does not
                    assert other in versions, f"{name} needs {other}"


def test_the_lock_installs_on_the_oldest_python_and_on_the_environments() -> None:
    floor = next(iter(Requirement(f"python{project_table()['requires-python']}").specifier)).version
    environment = yaml.safe_load((PROJECT_DIR / "environment.yml").read_text(encoding="utf-8"))
    (named,) = [d.split("=")[1] for d in environment["dependencies"] if str(d).startswith("python=")]
    for name in locked():
        try:
            wanted = metadata(name).get("Requires-Python") or ""
        except PackageNotFoundError:
            continue
        for python in (f"{floor}.0", f"{named}.0"):
            assert SpecifierSet(wanted).contains(python), f"{name} is not for Python {python}: {wanted}"


def test_environment_yml_agrees() -> None:
    environment = yaml.safe_load((PROJECT_DIR / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == "difcore"
    conda = {
        Requirement(re.sub(r"(?<![=<>])=(?!=)", "==", d)).name: d
        for d in environment["dependencies"]
        if isinstance(d, str)
    }
    assert set(conda) == {"python", "pip"}
    python = conda["python"].split("=")[1]
    assert Requirement(f"python{project_table()['requires-python']}").specifier.contains(python)
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-r requirements.lock", "-e ."]


def test_the_packages_that_are_built_are_all_there_are() -> None:
    built = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent for path in MODULES}
    assert {PROJECT_DIR / built["package-dir"].get(p, p.replace(".", "/")) for p in built["packages"]} == folders | {
        PROJECT_DIR / "data"
    }


def test_every_import_is_a_declared_dependency() -> None:
    distributions = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    declared = {canonicalize_name(Requirement(d).name) for d in project_table()["dependencies"]}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"difcore"}:
                assert canonicalize_name(distributions.get(top, top)) in declared | {"ipython"}, f"{path.name}: {top}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_short_parametrised_and_without_outputs(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert re.match(r"\d\d_[A-Za-z0-9_]+$", path.stem)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in document["metadata"]
    for cell in code:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    lines = [line for cell in code for line in "".join(cell["source"]).splitlines() if line.strip()]
    assert len(lines) <= NOTEBOOK_LINES
    assert document["cells"][0]["cell_type"] == "markdown"
    assert "".join(document["cells"][0]["source"]).startswith("# ")
    (parameters,) = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    source = "".join(parameters["source"])
    assert f'output_dir: str = "../outputs/manual/{path.stem}"' in source
    assert "seed: int = " in source


def test_there_are_modules_to_check() -> None:
    assert len(MODULES) > 5


def test_no_tracked_file_names_a_machine_or_a_package_registry() -> None:
    # Put together from pieces, so that this file does not contain what it looks for.
    folders = ["/" + name + "/" for name in ("work", "root", "home", "Users", "opt", "mnt")]
    hosts = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))]
    pattern = re.compile("(?<![A-Za-z0-9_.~}>$])(?:" + "|".join(folders) + ")|" + "|".join(map(re.escape, hosts)))
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(PROJECT_DIR)}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []


def test_scripts_are_bash_that_parses_and_stops_at_errors() -> None:
    for name in ("run_all.sh", "run_tests.sh", ".ci/run"):
        path = PROJECT_DIR / name
        assert path.stat().st_mode & 0o111, name
        assert "set -euo pipefail" in path.read_text(encoding="utf-8"), name
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((PROJECT_DIR / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"].startswith("difcore")
    assert citation["references"][0]["url"].endswith("2303.10762")
    from difcore import __version__

    assert citation["version"] == __version__


IMPORT_ALL = """
import os, pkgutil, random, sys
import matplotlib, numpy, torch
import difcore

def import_all():
    for module in pkgutil.walk_packages(difcore.__path__, "difcore."):
        __import__(module.name)

def state():
    return {"environment": dict(os.environ), "rcParams": dict(matplotlib.rcParams), "random": random.getstate(),
            "numpy.random": numpy.random.get_state()[1].tolist(), "torch.random": torch.random.get_rng_state().tolist(),
            "threads": torch.get_num_threads(), "dtype": torch.get_default_dtype(), "path": list(sys.path)}

import_all()  # what other packages do when they are first imported is theirs
for name in [name for name in sys.modules if name.startswith("difcore.")]:
    del sys.modules[name]
before = state()
import_all()
after = state()
print([name for name in before if before[name] != after[name]])
"""


def test_importing_difcore_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))  # its font list, whoever imports it
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_DIR))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    command = [sys.executable, "-c", IMPORT_ALL]
    answer = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
    assert [str(p.relative_to(home)) for p in home.rglob("*")] == []
