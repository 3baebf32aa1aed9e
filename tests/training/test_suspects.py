"""Each source of nondeterminism, planted in a project: found, called by its name, with its line."""

import contextlib
import shutil
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import PROJECTS, inside

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers.local import worker_environment
from pytest_mltrainer.training.repetition.rehearsal import rehearse
from pytest_mltrainer.training.repetition.suspects import causes_text, differences, explain
from pytest_mltrainer.training.repetition.trial import SHIFTED_TRIAL, Trial, run_trial
from pytest_mltrainer.training.tracking import written_since

TASK = """
import datetime, functools, glob, os, random, secrets, time, uuid
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from pytest_mltrainer import Splits, Task

HERE = Path(__file__).parent
{module}

class Rows(Dataset):
    def __init__(self, rows):
        draw = torch.Generator().manual_seed(rows)
        self.values, self.targets = torch.randn(rows, 4, generator=draw), torch.arange(rows) % 2
{init}

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        value = self.values[index]
{item}
        return value, self.targets[index]


class ProjectTask(Task):
    def model(self, config):
{model}
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def data(self, config):
{data}
        return Splits(train=Rows(120), validation=Rows(40), test=Rows(30))
"""
CLOCK = "the clock, at task.py:"
ENTROPY = "random numbers without a fixed seed"
LISTING = "the order in which a folder lists its files"
MEMORY = "memory that was read before it was written"
AGAIN = "state at module level that the first training of a process changes"
THREADS = "another thread count, set by the project"
RESUME = "state of task or data set that a resumed training does not get back"
PLANTED = {
    # The planted code by its place in the task, and the cause that must be named with its line.
    "default_rng": ({"item": "value = value + np.random.default_rng().random()"}, ENTROPY),
    "Random": ({"item": "value = value + random.Random().random()"}, ENTROPY),
    "random.seed": ({"item": "random.seed(); value = value + random.random()"}, ENTROPY),
    "SystemRandom": ({"item": "value = value * random.SystemRandom().random()"}, ENTROPY),
    "np.random.seed": ({"item": "np.random.seed(); value = value * np.random.rand()"}, ENTROPY),
    "torch.seed": ({"item": "torch.seed(); value = value + torch.rand(4)"}, ENTROPY),
    "Generator.seed": (
        {"item": "own = torch.Generator(); own.seed(); value = value * own.initial_seed()"},
        ENTROPY,
    ),
    "uuid4": ({"item": "value = value + uuid.uuid4().int % 97"}, ENTROPY),
    "urandom": ({"item": "value = value + os.urandom(1)[0]"}, ENTROPY),
    "secrets": ({"item": "value = value + secrets.randbelow(97)"}, ENTROPY),
    "time": ({"item": "value = value + time.time() % 1"}, CLOCK),
    "time_ns": ({"item": "value = value + time.time_ns() % 97"}, CLOCK),
    "perf_counter": ({"item": "value = value * (1 + time.perf_counter())"}, CLOCK),
    "now": ({"item": "value = value + datetime.datetime.now().microsecond / 1e6"}, CLOCK),
    "today": ({"init": "self.values += datetime.date.today().year - 2000"}, CLOCK),
    "listdir": ({"init": "self.values += len(os.listdir(HERE / 'files')[0])"}, LISTING),
    "scandir": ({"init": "self.values += len(next(os.scandir(HERE / 'files')).name)"}, LISTING),
    "iterdir": ({"init": "self.values += len(next((HERE / 'files').iterdir()).name)"}, LISTING),
    "glob": ({"init": "self.values += len(glob.glob(str(HERE / 'files/*'))[0])"}, LISTING),
    "np.empty": ({"item": "value = value + torch.from_numpy(np.empty(4)).float()"}, MEMORY),
    "torch.empty": ({"item": "value = value + torch.empty(4)"}, MEMORY),
    "private generator": (
        {
            "init": "self.rng = np.random.default_rng(0)",
            "item": "value = value + self.rng.random()",
        },
        RESUME,
    ),
    "counter": (
        {"init": "self.calls = 0", "item": "self.calls += 1; value = value + self.calls"},
        RESUME,
    ),
    "module's generator": (
        {"module": "RNG = random.Random(5)", "item": "value = value + RNG.random()"},
        AGAIN,
    ),
    "module's cache": (
        {"module": "SEEN = {}", "data": "SEEN[len(SEEN)] = 1", "init": "self.values += len(SEEN)"},
        AGAIN,
    ),
    "thread count": ({"model": "torch.set_num_threads(2)"}, THREADS),
}  # fmt: skip
HARMLESS = {
    "logged time": {"item": "self.read_at = time.time(), datetime.datetime.now(), uuid.uuid4()"},
    "sorted files": {"init": "self.values += len(sorted(os.listdir(HERE / 'files'))[0])"},
    "filled memory": {"item": "noise = np.empty(4); noise[:] = 1; value = value + noise[0]"},
    "global generators": {
        "item": "value = value + random.random() + np.random.rand() + torch.rand(4)"
    },
    "cache": {
        "module": "@functools.cache\ndef scale():\n    return 2.0",
        "item": "value = value * scale()",
    },
    "seeded by the sample": {"item": "value = value + np.random.default_rng(index).random()"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a folder of files, whose task `plant` writes."""
    root = tmp_path / "project"
    shutil.copytree(PROJECTS / "healthy", root)
    config = root / "training_config.yaml"
    config.write_text(config.read_text() + "limits:\n  probe_steps: 6\n")
    (root / "files").mkdir()
    for number in range(1, 8):
        (root / "files" / ("x" * number)).touch()
    return root


def plant(project: Path, **code: str) -> None:
    """Write the task with this code in its places."""
    indents = {"module": 0, "init": 8, "item": 8, "model": 8, "data": 8}
    filled = {
        place: textwrap.indent(code.get(place, ""), " " * indent)
        for place, indent in indents.items()
    }
    (project / "task.py").write_text(TASK.format(**filled))


@contextlib.contextmanager
def as_in_a_worker(project: Path, request: WorkRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), inside(project):
        warnings.simplefilter("ignore")
        patch.setenv(
            "CUBLAS_WORKSPACE_CONFIG", worker_environment(request)["CUBLAS_WORKSPACE_CONFIG"]
        )
        yield


class Rehearsals:
    """Rehearsals of a project in this process; the hash seed alone takes a process of its own."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.config = load_config(Project.load(project).config_path)
        self.trials: list[str] = []

    def request(self, name: str) -> WorkRequest:
        attempt = self.project / ".mltrainer/attempts" / f"{name}-{len(self.trials)}"
        attempt.mkdir(parents=True, exist_ok=True)
        return WorkRequest(
            entry="",
            phase="planning",
            project_root=str(self.project),
            attempt=str(attempt),
            config=self.config.to_json(),
            seed=self.config.seed,
            threads=self.config.threads,
            arguments={"role": name},
        )

    def rehearsed(self, role: str) -> dict[str, Any]:
        request = self.request(role)
        with as_in_a_worker(self.project, request):
            rehearse(request)
        return dict(files.read_json(request.folder / "rehearsal.json"))

    def run(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        found = []
        for trial in trials:
            self.trials.append(trial.name)
            request = self.request(trial.name)
            with as_in_a_worker(self.project, request):
                run_trial(trial.request(request, request.folder))
            found.append(files.read_json(request.folder / "rehearsal.json"))
        return found

    def differences(self) -> tuple[list[dict[str, Any]], list[str]]:
        """What two rehearsals and the shifted one found, and what is not the same in them."""
        second = self.rehearsed("second")
        repeated = self.rehearsed("repeated")
        (shifted,) = self.run([SHIFTED_TRIAL])
        found = differences(second, repeated, shifted, threads=self.config.threads)
        return [second, repeated, shifted], found

    def explained(self) -> str:
        """What the gate would say; blank when nothing differs."""
        started = (self.project / "task.py").stat().st_mtime + 1e-3
        (first, _, shifted), found = self.differences()
        if not found:
            return ""
        written = written_since(Project.load(self.project), started)
        threads = self.config.threads
        stored = explain(first, shifted, found, self.run, threads=threads, written=written)
        return causes_text(stored, found)


@pytest.mark.parametrize("name", PLANTED)
def test_names_the_cause_and_its_line(name: str, project: Path) -> None:
    code, cause = PLANTED[name]
    plant(project, **code)
    text = Rehearsals(project).explained()
    assert text.startswith(f"cause: {cause}"), text
    assert text.count("Instead: ") == 1, text
    assert any(f": {line}" in text for line in code.values()), text
    assert ", at task.py:" in text


@pytest.mark.parametrize("name", HARMLESS)
def test_accuses_nothing_that_changes_no_digest(name: str, project: Path) -> None:
    plant(project, **HARMLESS[name])
    (first, *_), found = Rehearsals(project).differences()
    assert len(first["steps"]) == 6
    assert found == []


def test_accuses_only_what_was_shown_of_several_things_seen(project: Path) -> None:
    plant(project, item="self.at = time.time(); value = value + os.urandom(1)[0]")
    text = Rehearsals(project).explained()
    assert ENTROPY in text
    assert CLOCK not in text


def test_names_each_of_several_causes(project: Path) -> None:
    plant(project, init=PLANTED["listdir"][0]["init"], item=PLANTED["time"][0]["item"])
    text = Rehearsals(project).explained()
    assert CLOCK in text
    assert LISTING in text


def test_a_library_that_reads_the_clock_and_draws_is_left_alone(project: Path) -> None:
    library = project / "site-packages"
    library.mkdir()
    (library / "logs.py").write_text("import os, time\nAT = time.time()\nos.urandom(1)\n")
    start = "import sys; sys.path.append(str(HERE / 'site-packages')); import logs"
    plant(project, module=start, item="value = value + time.time() % 1")
    assert "logs" not in Rehearsals(project).explained()


def test_an_unseeded_generator_in_a_loaders_worker(project: Path) -> None:
    plant(
        project,
        init="self.rng = None",
        item="self.rng = self.rng or np.random.default_rng()\nvalue = value + self.rng.random()",
    )
    config = project / "training_config.yaml"
    config.write_text(config.read_text().replace("  epochs: 8", "  epochs: 8\n  loader_workers: 2"))
    rehearsals = Rehearsals(project)
    first, second = rehearsals.rehearsed("second"), rehearsals.rehearsed("repeated")
    assert first["loaders"]["2"] != second["loaders"]["2"]
    text = rehearsals.explained()
    assert text.startswith(f"cause: {ENTROPY}")
    assert "in __getitem__: self.rng = self.rng or np.random.default_rng()" in text


def test_a_file_that_a_training_leaves_for_the_next(project: Path) -> None:
    plant(
        project,
        data="there = (HERE / 'left.txt').exists()\n(HERE / 'left.txt').write_text('x')\n"
        "Rows.shift = float(there)",
        init="self.values += Rows.shift",
        module="pass",
    )
    text = Rehearsals(project).explained()
    assert "left.txt" in text
    assert "a file that one training writes into the project" in text


def test_an_operation_without_a_deterministic_form_is_named(project: Path) -> None:
    plant(project, item="value = value.clone().put_(torch.tensor([0, 0]), torch.ones(2))")
    with pytest.raises(UserError, match=r"put_ has no deterministic form.*exceptions: \[put_\]"):
        Rehearsals(project).rehearsed("second")
