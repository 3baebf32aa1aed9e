"""The registry: whole releases, one of them current, nothing changed that was released."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mltrainer import cli
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.release.registry import Registry


def finalized(folder: Path, model: str) -> RunFolder:
    """A run with a final model of a kind, as far as a registry looks at it."""
    final = folder / "finalization"
    (final / "final_model").mkdir(parents=True, exist_ok=True)
    (final / "final_model/model.json").write_text(json.dumps({"name": model}))
    (final / "final_model/model.onnx").write_text(model)
    (final / "manifest.json").write_text("{}")
    (folder / "ledger.jsonl").write_text("")
    return RunFolder(folder)


def test_an_empty_registry_has_no_champion(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "releases")
    assert registry.current() is None
    assert registry.releases() == []


def test_a_release_holds_the_model_and_its_evidence(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "releases")
    added = registry.add(finalized(tmp_path / "run", "a"))
    folder = registry.model(added)
    assert folder == tmp_path / "releases/0001/final_model"
    assert (folder / "model.onnx").read_text() == "a"
    assert (tmp_path / "releases/0001/evidence/finalization/manifest.json").exists()
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == [
        "0001",
        "current.json",
    ]


def test_the_same_model_is_not_released_twice(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "releases")
    run = finalized(tmp_path / "run", "a")
    registry.add(run)
    with pytest.raises(UserError, match="is release 0001 already"):
        registry.add(run)


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["release", "rollback"]), max_size=12))
def test_numbers_rise_and_a_rollback_undoes_the_last_release(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("registry")
    registry = Registry(folder / "releases")
    deployed: list[int] = []
    for count, step in enumerate(steps):
        if step == "release":
            deployed.append(registry.add(finalized(folder / "run", f"model {count}")).number)
        elif len(deployed) > 1:
            deployed.pop()
            assert registry.roll_back().number == deployed[-1]
        else:
            with pytest.raises(UserError, match="no release before"):
                registry.roll_back()
        current = registry.current()
        assert (current.number if current else None) == (deployed[-1] if deployed else None)
    numbers = [entry.number for entry in registry.releases()]
    assert numbers == list(range(1, steps.count("release") + 1))


def test_a_release_that_was_changed_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "releases")
    added = registry.add(finalized(tmp_path / "run", "a"))
    (tmp_path / "releases/0001/final_model/model.onnx").write_text("b")
    with pytest.raises(StorageError, match=r"model\.onnx: it is not what was released"):
        registry.model(added)


def test_a_release_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "releases")
    registry.add(finalized(tmp_path / "run", "a"))
    run = finalized(tmp_path / "run", "b")
    (run.path / "finalization/final_model/link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match="cannot release there"):
        registry.add(run)
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == [
        "0001",
        "current.json",
    ]
    current = registry.current()
    assert current is not None
    assert current.name == "0001"


def test_a_run_that_is_not_ready_is_not_released(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:T"\n')
    (tmp_path / "training_config.yaml").write_text("seed: 0\n")
    finalized(tmp_path / ".mltrainer", "a")
    assert cli.main(["release", str(tmp_path)]) == 2
    assert "not production-ready" in capsys.readouterr().err
    assert not (tmp_path / "releases").exists()


def test_releases_are_listed_and_rolled_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:T"\n')
    (tmp_path / "training_config.yaml").write_text("release:\n  registry: models\n")
    registry = Registry(tmp_path / "models")
    for name in ("a", "b"):
        registry.add(finalized(tmp_path / ".mltrainer", name))
    assert cli.main(["releases", str(tmp_path)]) == 0
    assert "* 0002" in capsys.readouterr().out
    assert cli.main(["rollback", str(tmp_path)]) == 0
    assert "current is 0001" in capsys.readouterr().out
    assert cli.main(["rollback", str(tmp_path)]) == 2
    assert "no release before" in capsys.readouterr().err
