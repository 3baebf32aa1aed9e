"""`--mltrainer-frozen` does no phase work: what is missing or stale fails and names the change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_runs import BASELINE, Copied, Run, everything, trained_bytes, verdict
from support import PROJECTS


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        path = project / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


def flip_a_bit(name: str) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        path = project / name
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)

    return spoil


def delete(name: str) -> Callable[[Path], None]:
    return lambda project: (project / name).unlink()


def done_work(project: Path) -> dict[str, bytes]:
    return {
        name: content
        for name, content in everything(project / ".mltrainer").items()
        if not name.startswith("lock")
    }


STALE = {
    "a line of a helper module": (
        replace("helper.py", "float(second)", "0.0"),
        "helper.py changed",
    ),
    "a line of the task": (replace("task.py", "ReLU", "Tanh"), "task.py changed"),
    "a value of the configuration": (
        replace("training_config.yaml", "learning_rate: 0.01", "learning_rate: 0.02"),
        "training.learning_rate: 0.01 -> 0.02",
    ),
    "a byte of the data": (replace("rows.csv", "1", "2"), "data file rows.csv changed"),
    "the data are gone": (delete("rows.csv"), "data file rows.csv is missing"),
    "a helper module is gone": (delete("helper.py"), "helper.py is missing"),
    "a bit of an artifact": (
        flip_a_bit(".mltrainer/planning/splits.json"),
        "artifact planning/splits.json was changed",
    ),
    "an artifact is gone": (
        delete(".mltrainer/planning/splits.json"),
        "artifact planning/splits.json is missing",
    ),
}


@pytest.mark.parametrize(("spoil", "named"), STALE.values(), ids=STALE)
def test_a_stale_phase_fails_and_names_the_change(
    copied: Copied, run: Run, spoil: Callable[[Path], None], named: str
) -> None:
    project = copied("own_files", "planning")
    spoil(project)
    before = done_work(project)
    result = run(project, "--phase=planning", "--mltrainer-frozen", "--tb=short")
    result.stdout.fnmatch_lines(
        [f"planning is not what --mltrainer-frozen wants to judge: *{named}*", "planning * FAIL *"]
    )
    result.assert_outcomes(failed=1)
    assert "Traceback" not in result.stdout.str()
    assert result.ret == 1
    assert done_work(project) == before


def test_a_missing_phase_fails(tmp_path: Path, run: Run) -> None:
    project = Path(shutil.copytree(PROJECTS / "own_files", tmp_path / "fresh"))
    result = run(project, "--phase=planning", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(["planning is not what *wants to judge: not done yet.*"])
    assert result.ret == 1
    assert done_work(project) == {}


def test_a_missing_later_phase_fails_behind_an_honoured_one(copied: Copied, run: Run) -> None:
    project = copied("own_files", "planning")
    result = run(project, "--phase=baseline", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(
        ["baseline is not what *not done yet*", "planning * PASS *HONOURED*", "baseline * FAIL *"]
    )
    assert result.ret == 1
    assert not (project / ".mltrainer" / "baseline").exists()


def test_what_is_current_is_judged(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = verdict(project, "planning"), verdict(project, "baseline")
    result = run(project, "--phase=baseline", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(
        ["planning * PASS *HONOURED*", f"baseline * PASS *{BASELINE} passed*"]
    )
    assert result.ret == 0
    assert (verdict(project, "planning"), verdict(project, "baseline")) == before


def test_a_comment_retrains_nothing(copied: Copied, run: Run) -> None:
    project = copied("own_files", "planning")
    helper = project / "helper.py"
    helper.write_text("# as they come\n\n" + helper.read_text().replace("rows = []", "rows  =  []"))
    config = project / "training_config.yaml"
    config.write_text("# ours\n" + config.read_text())
    result = run(project, "--phase=planning", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(["mltrainer: planning * judge (artifacts are current, *"])
    assert result.ret == 0


def test_a_changed_limit_judges_again_and_says_so(copied: Copied, run: Run) -> None:
    project = copied("own_files", "planning")
    before = done_work(project)
    judged = verdict(project, "planning")
    replace("training_config.yaml", "per_class: 20", "per_class: 21")(project)
    result = run(project, "--phase=planning", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(
        ["mltrainer: planning * judge (limits or budgets changed)", "planning * PASS *"]
    )
    assert result.ret == 0
    after = verdict(project, "planning")
    assert after["identity"] != judged["identity"]
    assert after["previous"] == judged["identity"]
    judging = ("verdict.json", "judgements.jsonl", "gate.xml", "report.html")
    changed = {name for name, content in done_work(project).items() if before[name] != content}
    assert changed <= {f"planning/{name}" for name in judging}


def test_a_stricter_limit_fails_without_retraining(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = trained_bytes(project, "baseline")
    config = project / "training_config.yaml"
    config.write_text(config.read_text() + "budgets:\n  baseline_minutes: 0.000001\n")
    result = run(project, "--phase=baseline", "--mltrainer-frozen", "-k", "time_budget")
    result.stdout.fnmatch_lines(["baseline * FAIL *1 failed*"])
    assert result.ret == 1
    assert trained_bytes(project, "baseline") == before
