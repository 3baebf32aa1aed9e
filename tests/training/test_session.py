"""Nothing trains around a session: each way is refused, with its own reason."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trainings import Blobs, recorded, rehearse, small_config, weights
from support import inside

from pytest_mltrainer import Config, Splits
from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import MANIFEST, VERDICT, RunFolder
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.errors import SealedTestSetError, UnseededTrainingError, UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import Verdict, load_verdict
from pytest_mltrainer.training.permit import LIMIT_REHEARSAL_STEPS, Permit
from pytest_mltrainer.training.reproducibility import FixedSeeds, fix_seeds
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task


@pytest.fixture
def planned(copied: Callable[..., Path]) -> Iterator[Path]:
    """A project whose planning has passed; its modules may be imported."""
    project = copied("healthy", "planning")
    with inside(project):
        yield project


def open_session(root: Path) -> TrainingSession:
    project = Project.load(root)
    config = load_config(project.config_path)
    return TrainingSession.open(
        project, config, "baseline", load_task(project.task), root / "output"
    )


def permit(root: Path) -> Permit:
    project = Project.load(root)
    return Permit.from_planning(project, load_config(project.config_path))


def planning(root: Path) -> Path:
    return RunFolder(Project.load(root).run_folder).phase("planning").path


def rewrite_verdict(root: Path, **changes: Any) -> None:
    verdict = load_verdict(RunFolder(Project.load(root).run_folder).phase("planning"))
    assert verdict is not None
    changed: Verdict = dataclasses.replace(verdict, **changes)
    files.write_json(planning(root) / VERDICT, changed.to_json())


def test_passed_planning_lets_a_session_open(planned: Path) -> None:
    session = open_session(planned)
    verdict = load_verdict(RunFolder(Project.load(planned).run_folder).phase("planning"))
    assert verdict is not None
    assert permit(planned).planning == verdict.identity
    assert permit(planned).limit_steps is None
    assert session.config.training.epochs == 8
    assert next(session.model.parameters()).requires_grad


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return change


def fail_one_check(root: Path) -> None:
    verdict = load_verdict(RunFolder(Project.load(root).run_folder).phase("planning"))
    assert verdict is not None
    name = next(iter(verdict.checks))
    rewrite_verdict(root, outcome="FAIL", checks={**verdict.checks, name: "fail"})


def judge_other_artifacts(root: Path) -> None:
    verdict = load_verdict(RunFolder(Project.load(root).run_folder).phase("planning"))
    assert verdict is not None
    other = dict.fromkeys(verdict.basis.artifacts, "0" * 64)
    rewrite_verdict(root, basis=dataclasses.replace(verdict.basis, artifacts=other))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda root: (planning(root) / MANIFEST).unlink(), "not done yet"),
        (lambda root: (planning(root) / VERDICT).unlink(), "its gate was not judged"),
        (fail_one_check, "its verdict is FAIL"),
        (judge_other_artifacts, "its verdict is about other artifacts"),
        (edit("task.py", "nn.ReLU()", "nn.Tanh()"), "task.py changed"),
        (
            edit("training_config.yaml", "learning_rate: 0.005", "learning_rate: 0.5"),
            "training.learning_rate: 0.005 -> 0.5",
        ),
        (edit("training_config.yaml", "seed: 7", "seed: 8"), "seed: 7 -> 8"),
        (
            lambda root: (planning(root) / "splits.json").write_text("{}"),
            "artifact planning/splits.json was changed",
        ),
        (lambda root: (planning(root) / VERDICT).write_text("{}"), "schema None"),
        (
            lambda root: edit(
                ".mltrainer/planning/verdict.json", '"not applicable"', '"pass"'
            )(root) if '"not applicable"' in (planning(root) / VERDICT).read_text()
            else edit(".mltrainer/planning/verdict.json", '"pass"', '"not applicable"')(root),
            "edited after it was written",
        ),
    ],
    ids=[
        "not planned", "not judged", "failed", "other artifacts", "code", "config", "seed",
        "artifact", "damaged verdict", "edited verdict",
    ],
)  # fmt: skip
def test_without_a_verdict_for_exactly_this_nothing_trains(
    planned: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(planned)
    with pytest.raises(UnseededTrainingError) as raised:
        open_session(planned)
    assert reason in str(raised.value)
    assert "pytest --phase=planning" in str(raised.value)
    assert not (planned / "output").exists()


def test_changed_data_since_planning_is_refused(planned: Path) -> None:
    """The data of this project lie in an installed package: let planning have seen other bytes."""
    path = planning(planned) / MANIFEST
    stored = files.read_json(path)
    for step in stored["steps"].values():
        for name in step["inputs"]:
            if name.startswith("data/"):
                step["inputs"][name] = "0" * 64
                changed = name
    files.write_json(path, stored)
    with pytest.raises(UnseededTrainingError) as raised:
        permit(planned)
    assert changed.removeprefix("data/") in str(raised.value)


def test_comments_since_planning_do_not_matter(planned: Path) -> None:
    path = planned / "task.py"
    path.write_text(f"# a comment\n{path.read_text()}")
    assert permit(planned).planning


@pytest.mark.parametrize(
    ("seeds", "allowed"), [(None, None), (7, "permit"), ("real", None), (None, "real")]
)
def test_session_is_not_made_by_hand(tmp_path: Path, seeds: Any, allowed: Any) -> None:
    config = small_config()
    with pytest.raises(UnseededTrainingError, match="not made by hand"):
        TrainingSession(
            seeds=fix_seeds(1) if seeds == "real" else seeds,
            permit=Permit.for_rehearsal(1) if allowed == "real" else allowed,
            task=Blobs(),
            config=config,
            splits=Blobs().data(config),
            output=tmp_path,
        )


def test_proof_of_fixed_seeds_is_not_made_by_hand() -> None:
    with pytest.raises(UnseededTrainingError, match=r"call fix_seeds\(seed\)"):
        FixedSeeds(7, object())


@pytest.mark.parametrize("limit", [None, 5])
def test_permit_is_not_made_by_hand(limit: int | None) -> None:
    with pytest.raises(UnseededTrainingError, match="cannot be made by hand"):
        Permit("0" * 64, limit, object())


def test_real_proofs_do_not_turn_into_others() -> None:
    with pytest.raises((UnseededTrainingError, ValueError)):
        dataclasses.replace(Permit.for_rehearsal(1), limit_steps=None)
    with pytest.raises((UnseededTrainingError, ValueError)):
        dataclasses.replace(fix_seeds(1), seed=2)


def test_long_rehearsal_is_training(tmp_path: Path) -> None:
    assert Permit.for_rehearsal(LIMIT_REHEARSAL_STEPS).limit_steps == LIMIT_REHEARSAL_STEPS
    with pytest.raises(UnseededTrainingError, match="at most 200 steps, 201 is training"):
        TrainingSession.rehearse(small_config(), Blobs(), tmp_path, steps=201)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_rehearsal_ends_at_its_steps(tmp_path: Path, steps: int) -> None:
    rehearse(Blobs(), small_config(), tmp_path, steps=steps)
    assert len(recorded(tmp_path).steps) == steps


def test_test_set_is_sealed(tmp_path: Path) -> None:
    session = TrainingSession.rehearse(small_config(), Blobs(), tmp_path, steps=1)
    with pytest.raises(SealedTestSetError, match="pytest --phase=finalization"):
        _ = session.splits.test
    assert len(session.splits.train) == 48  # type: ignore[arg-type]


def test_weights_do_not_depend_on_what_reading_the_data_drew(tmp_path: Path) -> None:
    class Drawing(Blobs):
        def data(self, config: Config) -> Splits:
            import torch

            torch.rand(100)
            return super().data(config)

    config = small_config()
    plain = TrainingSession.rehearse(config, Blobs(), tmp_path, steps=1)
    drawing = TrainingSession.rehearse(config, Drawing(), tmp_path, steps=1)
    assert weights(plain) == weights(drawing)


def test_seed_governs_everything(tmp_path: Path) -> None:
    trained = [
        weights(rehearse(Blobs(), small_config(seed=seed), tmp_path / str(index)))
        for index, seed in enumerate((1, 1, 2))
    ]
    assert trained[0] == trained[1] != trained[2]


class NoSplits(Blobs):
    def data(self, config: Config) -> Any:
        return (1, 2, 3)


class EmptySplit(Blobs):
    def data(self, config: Config) -> Splits:
        return dataclasses.replace(super().data(config), validation=[])


class Iterable(Blobs):
    def data(self, config: Config) -> Splits:
        return dataclasses.replace(super().data(config), train=iter([1]))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (NoSplits, r"found tuple, wanted Splits"),
        (EmptySplit, "validation is empty"),
        (Iterable, "wanted a map-style data set"),
    ],
)
def test_data_that_are_no_splits_are_refused(
    tmp_path: Path, task: type[Blobs], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        rehearse(task(), small_config(), tmp_path)
