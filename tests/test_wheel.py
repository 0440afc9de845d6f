"""What is built from the project, installed elsewhere: the commands work there, and write nothing beside themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tiny import grid, with_pattern, write_images

from difcore.files import DATA_DIR, PROJECT_DIR, sha256_file
from difcore.images.scenes import rendered

pytestmark = pytest.mark.slow
BUILT_OF = ("difcore", "data", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
SIZE, N = 96, 24
SECONDS = 600  # of one process


def build(what: str, project: Path, out: Path) -> Path:
    """The sdist or wheel of a project, built with this environment's setuptools: nothing is downloaded."""
    answer = subprocess.run([sys.executable, "-c", BUILD, f"build_{what}", out], cwd=project, capture_output=True,
                            text=True, check=False, timeout=SECONDS)  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return out / answer.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the unpacked sdist of a copy of the project."""
    home = tmp_path_factory.mktemp("build")
    (home / "project").mkdir()
    for name in BUILT_OF:
        source, target = PROJECT_DIR / name, home / "project" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    sdist = build("sdist", home / "project", home)
    with tarfile.open(sdist) as archive:
        archive.extractall(home / "unpacked", filter="data")
    return build("wheel", next((home / "unpacked").iterdir()), home)


@dataclass(frozen=True)
class Installed:
    """A bare environment with the wheel in it, and a folder to stand in."""

    python: Path
    site: Path
    folder: Path

    def run(self, *command: object, **environment: str | None) -> subprocess.CompletedProcess[str]:
        """A command of the environment, seeing nothing of the checkout; a variable that is None is unset."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DIFCORE", "XDG"))}
        chosen = inherited | {"HOME": str(self.folder / "home"), "MPLCONFIGDIR": str(self.folder / "mpl")} | environment
        line = [str(self.python.parent / str(command[0])), *map(str, command[1:])]
        return subprocess.run(line, cwd=self.folder, env={k: v for k, v in chosen.items() if v is not None},
                              capture_output=True, text=True, check=False, timeout=SECONDS)  # fmt: skip

    def tree(self) -> dict[str, str]:
        """Hash of every file of the environment's packages."""
        return {str(p.relative_to(self.site)): sha256_file(p) for p in sorted(self.site.rglob("*")) if p.is_file()}


def install(wheel: Path, home: Path) -> tuple[Path, Path]:
    """Interpreter and packages' folder of an environment with a wheel in it, and this one's packages beside it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True, timeout=SECONDS)
    python = home / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, capture_output=True, text=True, check=True, timeout=SECONDS).stdout.strip())
    # A folder named in a .pth file is searched, but .pth files in it do nothing: no editable install comes along.
    paths = dict.fromkeys(sysconfig.get_path(key) for key in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    subprocess.run(command, check=True, timeout=SECONDS)
    return python, site


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed where nothing may be written."""
    home = tmp_path_factory.mktemp("elsewhere")
    python, site = install(wheel, home)
    for path in site.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder = home / "mein Ordner für Bilder 画像"
    (folder / "home").mkdir(parents=True)
    images = rendered(range(2 * N), SIZE, "mixed")
    write_images(folder / "echte Photos", images[:N])
    write_images(folder / "erzeugt", with_pattern(images[N:], grid(SIZE, 8), 6.0))
    return Installed(python, site, folder)


def test_the_wheel_holds_what_the_package_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {
        f"difcore/data/{path.relative_to(DATA_DIR).as_posix()}" for path in DATA_DIR.rglob("*") if path.is_file()
    }
    modules = {p.relative_to(PROJECT_DIR).as_posix() for p in (PROJECT_DIR / "difcore").rglob("*")
               if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip
    assert shipped | modules <= names
    assert {name.split("/")[0] for name in names} == {"difcore", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert wheel.stat().st_size < 100e6


def test_an_editable_install_reads_the_checkout(wheel: Path, tmp_path: Path) -> None:
    project = wheel.parent / "project"
    (tmp_path / "built").mkdir()
    python, _ = install(build("editable", project, tmp_path / "built"), tmp_path)
    code = "import difcore.paper as paper; print(len(paper.fig_h()), paper.DATA_DIR)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    answer = subprocess.run([python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
                            check=False, timeout=SECONDS)  # fmt: skip
    assert (answer.returncode, answer.stdout.split()) == (0, ["20", str(project / "data")]), answer.stderr


def test_every_module_can_be_imported_there(installed: Installed) -> None:
    before = installed.tree()
    code = (
        "import json, pkgutil, difcore, difcore.files as files\n"
        "for module in pkgutil.walk_packages(difcore.__path__, 'difcore.'): __import__(module.name)\n"
        "print(json.dumps([difcore.__file__, str(files.DATA_DIR)]))"
    )
    answer = installed.run("python", "-c", code)
    assert answer.returncode == 0, answer.stderr
    assert [installed.site in Path(path).parents for path in json.loads(answer.stdout)] == [True, True]
    assert installed.tree() == before


def test_fit_and_detect_there(installed: Installed) -> None:
    before = installed.tree()
    answer = installed.run("difcore", "--version")
    assert (answer.returncode, answer.stdout.split()[0]) == (0, "difcore"), answer.stderr
    options = ("--crop", SIZE, "--steps", 40, "--batch", 16, "--train", 18, "--out", "fp 指紋.safetensors", "--json")
    answer = installed.run("difcore", "fit", "echte Photos", "erzeugt", *options)
    assert answer.returncode == 0, answer.stderr
    fitted = json.loads(answer.stdout)
    assert fitted["method"] == "dif" and fitted["auc"] > 0.9 and (fitted["n_real"], fitted["n_fake"]) == (6, 6)
    cached = installed.folder / "home" / ".cache" / "difcore" / "residuals"
    assert sys.platform != "linux" or len(list(cached.rglob("*.npy"))) == 2 * N

    # again, by somebody without a home
    lost = {"HOME": None, "XDG_CACHE_HOME": str(installed.folder / "cache")}
    answer = installed.run("difcore", "detect", "fp 指紋.safetensors", "erzeugt", "echte Photos", "--json", **lost)
    assert answer.returncode == 0, answer.stderr
    scores = {Path(image["image"]): image["matches"][0]["rho"] for image in json.loads(answer.stdout)["images"]}
    fake, real = ([rho for path, rho in scores.items() if path.parent.name == folder]
                  for folder in ("erzeugt", "echte Photos"))  # fmt: skip
    assert len(fake) == len(real) == N
    assert np.mean(fake) - np.mean(real) > 0.5 * (fitted["mu_fake"] - fitted["mu_real"]) > 0
    assert installed.tree() == before


def test_what_needs_a_checkout_says_so_there(installed: Installed) -> None:
    answer = installed.run("difcore", "run")
    assert answer.returncode == 2 and answer.stdout == "" and answer.stderr.count("\n") == 1, answer.stderr
    assert "notebooks" in answer.stderr
    script = PROJECT_DIR / "scripts" / "train_generators.py"
    answer = installed.run("python", script, "--export")
    assert answer.returncode == 2 and "--export writes to data/ of a checkout" in answer.stderr, answer.stderr
