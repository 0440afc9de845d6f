"""The batch on small notebooks made here: outcomes, skipping, parameters, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import nbformat
import pytest
import yaml

from difcore.batch.jobs import Batch
from difcore.batch.kernels import kernel_settings, socket_folder
from difcore.batch.notebooks import Job, project_digest, worker_environment
from difcore.batch.run import (
    BatchError,
    Places,
    Selection,
    combinations,
    load_parameters,
    run_batch,
    select,
    stop_signals,
)
from difcore.files import PROJECT_DIR, atomic_json

PARAMETERS = 'output_dir: str = "../outputs/manual/x"\nseed: int = 0\nvalue: float = 1.0  # any number'
SAVE = """\
import pandas as pd
from difcore.records import artefact
artefact("x").save(1, {"t": pd.DataFrame({"value": [value]})})"""


def write_notebook(folder: Path, name: str, *cells: str) -> Path:
    """A notebook with a claim, a parameters cell and the given code cells."""
    code = [nbformat.v4.new_code_cell(source) for source in cells]
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    title = nbformat.v4.new_markdown_cell(f"# Title of {name}\n\nThe claim of *{name}*.")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[title, parameters, *code], metadata={"kernelspec": kernel})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


class Project:
    """Folders of a batch in a temporary place."""

    def __init__(self, root: Path) -> None:
        self.notebooks, self.params, self.outputs = root / "notebooks", root / "params", root / "outputs"
        self.profile({})

    def profile(self, sections: dict[str, Any], name: str = "demo") -> None:
        self.params.mkdir(parents=True, exist_ok=True)
        (self.params / f"{name}.yml").write_text(yaml.safe_dump(sections), encoding="utf-8")

    @property
    def folders(self) -> dict[str, Path]:
        return {"notebooks": self.notebooks, "params": self.params, "outputs": self.outputs}

    def run(self, **options: Any) -> int:
        places = Places(**(self.folders | {key: options.pop(key) for key in self.folders if key in options}))
        how = {key: options.pop(key) for key in ("jobs", "force", "progress") if key in options}
        return run_batch(Selection(**options), places=places, **({"progress": False} | how))

    def statuses(self) -> dict[str, str]:
        summary = json.loads((self.outputs / "demo" / "summary.json").read_text(encoding="utf-8"))
        return {entry["name"]: entry["status"] for entry in summary["notebooks"]}

    def state(self, name: str) -> dict[str, Any]:
        return json.loads((self.outputs / "demo" / name / "state.json").read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("DIFCORE_DATA", raising=False)
    monkeypatch.setattr(
        "difcore.batch.run.project_digest", lambda data_root: "fixed"
    )  # someone may be editing the sources
    return Project(tmp_path)


def test_one_of_each_outcome_then_only_what_is_not_done(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(project.notebooks, "00_good", SAVE, "import ipywidgets\nipywidgets.interact(lambda k: k, k=(0, 3));")
    write_notebook(project.notebooks, "01_bad", "def broken():\n    raise KeyError('plumbus')\nbroken()")
    needs = "from difcore.files import NeedsData\nraise NeedsData('needs `difcore fetch`')"
    write_notebook(project.notebooks, "02_needs", needs)
    write_notebook(project.notebooks, "03_dies", "import os\nos._exit(3)")
    project.profile({"00_good": {"value": 2.5}})

    assert project.run(jobs=4, progress=True) == 1
    printed = capsys.readouterr()
    assert "raise KeyError('plumbus')" in printed.out
    assert "needs `difcore fetch`" in printed.out
    assert "papermill" not in printed.err.lower()
    assert "warning" not in printed.err.lower()
    assert project.statuses() == {"00_good": "ok", "01_bad": "failed", "02_needs": "skipped", "03_dies": "failed"}
    assert "DeadKernelError" in project.state("03_dies")["traceback"]
    home = project.outputs / "demo"
    for name in ("00_good", "01_bad", "02_needs"):
        assert (home / name / "executed.ipynb").is_file()
        assert (home / name / "executed.html").is_file()
    assert (home / "00_good" / "t.csv").read_text(encoding="utf-8") == "value\n2.5\n"
    assert project.state("02_needs")["reason"] == "needs `difcore fetch`"
    assert "src=" not in (home / "00_good" / "executed.html").read_text(encoding="utf-8").split("</head>")[0]
    assert "open the notebook in Jupyter" in (home / "00_good" / "executed.html").read_text(encoding="utf-8")
    assert (home / "index.html").is_file()

    # Mended, the failed one runs; the good one does not run again; the one without data is tried again.
    write_notebook(project.notebooks, "01_bad", "assert value == 1.0")
    (project.notebooks / "03_dies.ipynb").unlink()
    before = project.state("00_good")["finished"]
    assert project.run(jobs=2) == 0
    assert capsys.readouterr() == ("", "")
    assert project.statuses() == {"00_good": "unchanged", "01_bad": "ok", "02_needs": "skipped"}
    assert project.state("00_good")["finished"] == before
    assert project.state("00_good")["status"] == "ok"


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the execution by a record of the names that would run; each succeeds and leaves one file."""
    names: list[str] = []

    def run(todo: Sequence[Job], batch: Batch, display: object) -> None:
        folder = batch.folder
        for job in todo:
            names.append(job.name)
            state = {"name": job.name, "title": job.title, "claim": job.claim, "digest": job.digest, "seconds": 1.0}
            state |= {"status": "ok", "reason": "", "traceback": "", "files": ["t.csv"]}
            atomic_json(folder / job.name / "state.json", state)
            (folder / job.name / "t.csv").write_text("a\n1\n", encoding="utf-8")
            batch.statuses[job.name] = "ok"

    monkeypatch.setattr("difcore.batch.run.run_jobs", run)
    return names


def test_a_change_of_the_data_is_noticed_in_linked_folders_at_home_and_by_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("difcore", "weights", "elsewhere", "root/a"):
        (tmp_path / name).mkdir(parents=True)
    image = tmp_path / "elsewhere" / "1.png"
    image.write_bytes(b"1234")
    for name in ("0_real", "1_fake"):  # a folder that two links lead to is one
        (tmp_path / "root" / "a" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "gone.png").symlink_to(tmp_path / "nothing")
    monkeypatch.setattr("difcore.batch.notebooks.PROJECT_DIR", tmp_path)
    monkeypatch.setattr("difcore.batch.notebooks.DATA_DIR", tmp_path / "weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DIFCORE_DATA", "~/root")
    seen = [project_digest(None)]
    assert seen == [project_digest(tmp_path / "root")] == [project_digest(Path("~/root"))]
    facts = image.stat()
    os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))  # other bytes, as many
    seen.append(project_digest(None))
    (tmp_path / "elsewhere" / "2.png").write_bytes(b"")
    seen.append(project_digest(None))
    (tmp_path / "root" / "a" / "1_fake").unlink()
    (tmp_path / "root" / "a" / "1_fake").symlink_to(tmp_path / "weights")
    seen.append(project_digest(None))
    assert len(set(seen)) == 4


def test_what_makes_a_notebook_run_again(
    project: Project, pretended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, data = tmp_path / "difcore", tmp_path / "weights"
    sources.mkdir()
    data.mkdir()
    monkeypatch.setattr("difcore.batch.run.project_digest", project_digest)
    monkeypatch.setattr("difcore.batch.notebooks.PROJECT_DIR", tmp_path)
    monkeypatch.setattr("difcore.batch.notebooks.DATA_DIR", data)

    def runs(**options: Any) -> list[str]:
        pretended.clear()
        assert project.run(**options) == 0
        return list(pretended)

    first = write_notebook(project.notebooks, "00_a", "x = 1")
    write_notebook(project.notebooks, "01_b", "y = 1")
    assert runs() == ["00_a", "01_b"]
    assert runs() == []
    assert project.statuses() == {"00_a": "unchanged", "01_b": "unchanged"}
    assert runs(force=True, only=["b"]) == ["01_b"]
    assert project.statuses() == {"00_a": "ok", "01_b": "ok"}  # the unselected one stays in the report
    write_notebook(project.notebooks, "00_a", "x = 2")
    assert runs() == ["00_a"]
    project.profile({"01_b": {"value": 3.0}})
    assert runs() == ["01_b"]
    (project.outputs / "demo" / "00_a" / "t.csv").unlink()
    assert runs() == ["00_a"]
    document = nbformat.read(first, as_version=4)
    document.cells[2]["outputs"] = [nbformat.v4.new_output("stream", text="seen")]
    nbformat.write(document, first)
    assert runs() == []  # outputs in the notebook are no change
    for name in ("photos", "sd1"):
        (tmp_path / "data" / name).mkdir(parents=True)
        assert runs(data_root=tmp_path / "data") == ["00_a", "01_b"]
    runs()
    for path in (sources / "fit.py", data / "dncnn.safetensors"):
        path.write_text("1", encoding="utf-8")
        assert runs() == ["00_a", "01_b"]
        assert runs() == []


@pytest.mark.slow
def test_a_grid_runs_every_combination_with_its_share_of_the_machine(project: Project, tmp_path: Path) -> None:
    keep = "import json, os\njson.dump(dict(os.environ), open(f'{output_dir}/env.json', 'w'))"
    write_notebook(project.notebooks, "00_grid", SAVE, keep)
    (tmp_path / "data").mkdir()
    assert project.run(grid={"value": [1.5, 2.5]}, jobs=2, data_root=os.path.relpath(tmp_path / "data")) == 0
    assert set(project.statuses().values()) == {"ok"}
    for value in ("1.5", "2.5"):
        home = project.outputs / "demo" / f"00_grid--value={value}"
        assert (home / "t.csv").read_text(encoding="utf-8") == f"value\n{value}\n"
        environment = json.loads((home / "env.json").read_text(encoding="utf-8"))
        assert int(environment["OMP_NUM_THREADS"]) == max(1, joblib.cpu_count() // 2)
        assert environment["DIFCORE_DATA"] == str(tmp_path / "data")


def start_batch(project: Project, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    """The batch in a process of its own."""
    folders = {name: str(path) for name, path in project.folders.items()}
    code = "import sys; from pathlib import Path; from difcore.batch import run\n"
    code += "run.project_digest = lambda data_root: 'fixed'\n"
    code += f"places = run.Places(**{{name: Path(path) for name, path in {folders!r}.items()}})\n"
    code += f"sys.exit(run.run_batch({', '.join(options)}, places=places))"
    command, output = [sys.executable, "-c", code], subprocess.PIPE
    return subprocess.Popen(command, cwd=PROJECT_DIR, env=os.environ | environment, stdout=output, stderr=output)


def alive(pid: int) -> bool:
    """Whether a process runs (one that ended and waits to be collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Any, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_batch_stops_its_kernels_and_resumes(project: Project, tmp_path: Path) -> None:
    write_notebook(project.notebooks, "00_quick", "pass")
    slow = "import os, time\nfrom pathlib import Path\np = Path('pid')\nfirst = not p.exists()\n"
    slow += "p.write_text(str(os.getpid()))\ntime.sleep(120 if first else 0)"
    write_notebook(project.notebooks, "01_slow", slow)
    batch = start_batch(project, "progress=False")
    pid_file = project.notebooks / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text(encoding="utf-8"))
    kernel = int(pid_file.read_text(encoding="utf-8"))
    assert alive(kernel)
    batch.send_signal(signal.SIGKILL)
    batch.communicate(timeout=10)
    wait_for(lambda: not alive(kernel), 20)
    assert project.state("00_quick")["status"] == "ok"
    assert project.state("01_slow")["status"] == "stopped"
    assert project.statuses() == {"00_quick": "ok", "01_slow": "running"}  # the last report before the kill

    assert project.run() == 0
    assert project.statuses() == {"00_quick": "unchanged", "01_slow": "ok"}


WAIT = "import os, time\nfrom pathlib import Path\nPath('pid').write_text(str(os.getpid()))\ntime.sleep(120)"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="stops by POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stopped_batch_leaves_the_report_of_what_it_did(project: Project, name: str) -> None:
    write_notebook(project.notebooks, "00_quick", SAVE)
    write_notebook(project.notebooks, "01_slow", WAIT)
    write_notebook(project.notebooks, "02_never", "pass")
    number = signal.Signals[name]
    batch = start_batch(project, "jobs=1")
    pid_file = project.notebooks / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text(encoding="utf-8"))
    kernel = int(pid_file.read_text(encoding="utf-8"))
    index = project.outputs / "demo" / "index.html"
    wait_for(lambda: project.statuses().get("01_slow") == "running")
    assert "Still running" in index.read_text(encoding="utf-8")  # there before it is asked to stop
    batch.send_signal(number)
    out, err = batch.communicate(timeout=30)
    assert batch.returncode == 128 + number
    wait_for(lambda: not alive(kernel), 20)
    assert project.statuses() == {"00_quick": "ok", "01_slow": "stopped", "02_never": "not run"}
    page = index.read_text(encoding="utf-8")
    assert f"stopped by {name}" in page and "t.csv" in page and "Title of 02_never" in page
    assert "the batch was stopped before" in page
    assert f"stopped by {name} after" in project.state("01_slow")["reason"]
    assert b"01_slow begins" in err and b"3 notebooks to run, no time known yet" in err  # no terminal: lines for a log
    assert b"1 of 3 notebooks" in err and f"stopped by {name}".encode() in out and b"Traceback" not in err

    write_notebook(project.notebooks, "01_slow", "pass")
    assert project.run() == 0
    assert project.statuses() == {"00_quick": "unchanged", "01_slow": "ok", "02_never": "ok"}
    assert "stopped by" not in index.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="stops by POSIX signals")
def test_signals_to_stop_are_noted_and_an_ignored_one_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals() as received:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
        assert received == [signal.SIGTERM, signal.SIGINT]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with stop_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [signal.SIGHUP] and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="locks by POSIX file locks")
def test_of_two_batches_on_one_folder_the_second_says_so(project: Project) -> None:
    write_notebook(project.notebooks, "00_slow", WAIT)
    batch = start_batch(project, "jobs=1")
    wait_for(lambda: (project.notebooks / "pid").exists())
    with pytest.raises(ValueError, match=rf"another run writes to .*demo: process {batch.pid} on .*--wait"):
        project.run()
    project.profile({}, "other")
    write_notebook(project.notebooks, "00_slow", "pass")
    assert project.run(profile="other") == 0  # another folder is no conflict
    batch.send_signal(signal.SIGTERM)
    batch.communicate(timeout=30)
    assert project.run() == 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sockets that are files")
def test_a_long_temporary_folder_does_no_harm(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 150)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr("tempfile.tempdir", None)  # read again by who asks next
    write_notebook(project.notebooks, "00_a", SAVE)
    assert project.run() == 0


def test_where_no_short_path_is_to_be_had_ports_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("difcore.batch.kernels.SOCKET_PATH", len(str(tmp_path)) + 40)
    assert socket_folder() == tmp_path
    with kernel_settings() as config:
        assert config.KernelManager.transport == "ipc" and config.KernelManager.ip.startswith(str(tmp_path))
    monkeypatch.setattr("difcore.batch.kernels.SOCKET_PATH", 20)
    assert socket_folder() is None
    with kernel_settings() as config:
        assert "transport" not in config.KernelManager


def test_folders_are_those_of_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFCORE_DATA", "images")
    monkeypatch.setenv("DIFCORE_CACHE", "kept")
    environment = worker_environment(1, None)
    assert environment["DIFCORE_DATA"] == str(tmp_path / "images")
    assert environment["DIFCORE_CACHE"] == str(tmp_path / "kept")
    assert worker_environment(1, tmp_path / "other")["DIFCORE_DATA"] == str(tmp_path / "other")


def test_the_script_too_takes_folders_from_where_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the caller's folder')", encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"DIFCORE_USE_ACTIVE_ENV": "1", "PATH": path}
    for folder, told in (("gone", f"{tmp_path / 'gone'} is not a folder"), (".", "no notebook 'no_such'")):
        command = [str(PROJECT_DIR / "run_all.sh"), "--data-root", folder, "--only", "no_such"]
        answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout) == (2, "") and told in answer.stderr


def test_an_installed_package_without_notebooks_says_so(project: Project) -> None:
    with pytest.raises(BatchError, match=r"no notebooks at .*notebooks.*in a clone"):
        project.run(notebooks=project.notebooks / "gone")


def test_unknown_names_are_errors_that_name_them(project: Project) -> None:
    project.notebooks.mkdir()
    with pytest.raises(BatchError, match="no notebook NN_"):
        project.run()
    write_notebook(project.notebooks, "00_good", "pass")
    with pytest.raises(BatchError, match="no notebook '7'; there are 00_good"):
        project.run(only=["7"])
    with pytest.raises(BatchError, match=r"no profile 'vast'.*there are: demo"):
        project.run(profile="vast")
    with pytest.raises(BatchError, match="jobs"):
        project.run(jobs=0)
    with pytest.raises(BatchError, match="declares the grid's parameter 'colour'"):
        project.run(grid={"colour": [1]})
    project.profile({"00_good": {"valeu": 1}})
    with pytest.raises(BatchError, match=r"demo\.yml: 00_good does not declare a parameter 'valeu'"):
        project.run()
    project.profile({"00_god": {"value": 1}})
    with pytest.raises(BatchError, match="there is no notebook '00_god'"):
        project.run()
    assert not project.outputs.exists()


def test_common_parameters_go_where_they_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("common: {crop: 64}\n01_b: {steps: 3}\n", encoding="utf-8")
    declared = {"00_a": {"crop"}, "01_b": {"steps"}}
    assert load_parameters(path, declared) == {"00_a": {"crop": 64}, "01_b": {"steps": 3}}
    with pytest.raises(BatchError, match="no notebook declares the common parameter 'crop'"):
        load_parameters(path, {"01_b": {"steps"}})


def test_selection_and_combinations() -> None:
    names = ["00_start_here", "01_gray_image", "10_other"]
    assert select(names, []) == names
    assert select(names, ["1", "start_here"]) == ["00_start_here", "01_gray_image"]
    assert select(names, ["10", "01_gray_image"]) == ["01_gray_image", "10_other"]
    assert combinations({}, {"a"}) == [("", {})]
    runs = combinations({"a": [1, 2], "b": ["x/y"], "c": [0]}, {"a", "b"})
    assert runs == [("--a=1--b=x-y", {"a": 1, "b": "x/y"}), ("--a=2--b=x-y", {"a": 2, "b": "x/y"})]
