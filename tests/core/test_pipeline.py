"""Plans over small run folders: what is honoured, judged, run, blocked, not needed, and why."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_folders import CONFIG, INSUFFICIENT, SUFFICIENT, World
from strategies import ANY_JSON, places, replaced

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import MANIFEST, VERDICT
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.steps import STEPS

FAST = ("planning", "baseline", "finalization")
OPTIMIZE = {"status": "optimize", "next": "optimization", "reason": "underfitting"}
REPAIR = {"status": "repair", "next": "planning", "reason": "loss not finite at step 41"}
NEAR_OPTIMAL = {"status": "near optimal", "next": "finalization", "reason": "flat"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_fresh_project_runs_everything(world: World) -> None:
    plan = world.plan("baseline")
    assert [entry.action for entry in plan.values()] == ["run", "run"]
    assert plan["planning"].reason == "not done yet"
    assert plan["baseline"].steps == ("train", "evaluate", "diagnose", "documents")
    assert plan["baseline"].estimated_s is None


def test_target_is_judged_live_and_what_leads_to_it_is_honoured(world: World) -> None:
    world.bring("planning", "baseline")
    plan = world.plan("baseline")
    assert [entry.action for entry in plan.values()] == ["honour", "judge"]
    assert plan["planning"].reason.endswith("holds, nothing changed")
    assert plan["baseline"].reason == "artifacts are current, the gate is judged live"


def test_fast_path_says_why_two_phases_are_not_needed(world: World) -> None:
    world.bring("planning", "baseline")
    plan = world.plan("finalization")
    assert world.actions("finalization") == [
        "honour", "honour", "not needed", "not needed", "run",
    ]  # fmt: skip
    for phase in ("diagnostics", "optimization"):
        assert plan[phase].reason == "the baseline is sufficient: accuracy 0.95"


def test_insufficient_baseline_leads_through_diagnostics(world: World) -> None:
    world.bring("planning", "baseline", decision=INSUFFICIENT)
    plan = world.plan("finalization")
    assert world.actions("finalization") == [
        "honour", "honour", "run", "perhaps", "perhaps",
    ]  # fmt: skip
    assert plan["diagnostics"].steps == ("bottleneck", "capacity", "diagnose", "documents")
    assert plan["optimization"].reason == "only if the diagnosis recommends it"
    assert plan["finalization"].reason == "only if the diagnosis finds a way to it"


def test_diagnostics_are_planned_where_they_are_asked_for_by_name(world: World) -> None:
    world.bring("planning", "baseline")
    assert world.actions("diagnostics") == ["honour", "honour", "run"]


@pytest.mark.parametrize(
    ("decision", "action", "reason"),
    [
        (OPTIMIZE, "run", "not done yet"),
        (REPAIR, "perhaps", "only behind a baseline that is repaired"),
        (NEAR_OPTIMAL, "run", "not done yet"),
    ],
)
def test_decision_of_the_diagnosis_steers_finalization(
    world: World, decision: dict[str, str], action: str, reason: str
) -> None:
    world.bring("planning", "baseline", decision=INSUFFICIENT)
    world.do("diagnostics", decision)
    world.judge("diagnostics")
    entry = world.plan("finalization")["finalization"]
    assert entry.action == action
    assert reason in entry.reason


def test_diagnosis_of_a_sufficient_baseline_holds_nothing_up(world: World) -> None:
    world.bring("planning", "baseline")
    world.do("diagnostics", OPTIMIZE)
    world.judge("diagnostics")
    assert world.actions("finalization") == [
        "honour", "honour", "not needed", "not needed", "run",
    ]  # fmt: skip


def test_other_budgets_train_the_learning_curve_again_and_nothing_else(world: World) -> None:
    world.bring("planning", "baseline")
    world.do("diagnostics", OPTIMIZE)
    world.write("training_config.yaml", CONFIG + "budgets: {diagnosis_minutes: 1.0}\n")
    assert world.state("baseline").is_done
    assert world.state("diagnostics").redo == ("capacity", "diagnose", "documents")


def test_the_proposed_configuration_goes_stale_with_every_section() -> None:
    documents = next(step for step in STEPS["diagnostics"] if step.name == "documents")
    # Who signs, where releases go, which documents they have: nothing of it could be tried.
    unconcerned = {"phases", "approval", "release", "documents"}
    assert set(documents.config) == set(Config.model_fields) - unconcerned


def test_a_profile_of_the_documents_redoes_them_and_its_words_do_then(world: World) -> None:
    world.bring("planning", "baseline", "finalization")
    world.write("training_config.yaml", CONFIG + "documents: {profile: eu-ai-act}\n")
    assert world.state("finalization").redo == ("documents",)
    world.do("finalization")
    assert world.state("finalization").is_done
    world.write("docs/model/eu_ai_act.md", "## Risks\n\nNone.\n")
    assert world.state("finalization").redo == ("documents",)


def test_another_baseline_makes_its_diagnosis_stale(world: World) -> None:
    world.bring("planning", "baseline")
    world.do("diagnostics", OPTIMIZE)
    world.do("baseline", INSUFFICIENT, content="trained again")
    state = world.state("diagnostics")
    assert state.redo == ("capacity", "diagnose", "documents")
    assert "artifact baseline/checkpoints/best.pt changed" in state.reasons


def test_decision_of_a_stale_baseline_decides_nothing(world: World) -> None:
    world.bring("planning", "baseline", decision=INSUFFICIENT)
    world.write("helper.py", "WIDTH = 99\n")
    assert world.plan("finalization")["finalization"].action == "run"


def test_failed_gate_is_judged_again_and_nothing_behind_it_honoured(world: World) -> None:
    world.bring("planning", "baseline", "finalization")
    world.judge("planning", "FAIL")
    assert world.actions("finalization")[:2] == ["judge", "judge"]
    assert not world.state("planning").is_honoured


def test_unjudged_phase_is_judged_without_redoing_it(world: World) -> None:
    world.do("planning")
    assert world.actions("baseline") == ["judge", "run"]


def test_changed_limits_judge_again_and_train_nothing(world: World) -> None:
    world.bring("planning", "baseline")
    world.write("training_config.yaml", CONFIG + "limits: {min_class_recall: 0.4}\n")
    plan = world.plan("finalization")
    assert [plan[phase].action for phase in ("planning", "baseline")] == ["judge", "judge"]
    assert plan["baseline"].reason == "limits or budgets changed"
    assert world.state("baseline").is_done


def test_new_user_check_judges_again(world: World) -> None:
    world.bring("planning", "baseline")
    path = world.root / "test_mine.py"
    path.write_text("def test_mine(): pass\n")
    world.user_checks["baseline/user/test_mine.py::test_mine"] = path
    assert world.plan("finalization")["baseline"].reason == (
        "the source of a check changed; check baseline/user/test_mine.py::test_mine is new"
    )


def test_stale_work_is_run_with_its_reason_and_estimate(world: World) -> None:
    world.do("planning")
    world.judge("planning")
    world.do("baseline", INSUFFICIENT, train=60.0, evaluate=2.0)
    world.judge("baseline")
    world.write("training_config.yaml", CONFIG.replace("0.001", "0.01"))
    entry = world.plan("baseline")["baseline"]
    assert entry.action == "run"
    assert "training.learning_rate: 0.001 -> 0.01" in entry.reason
    assert entry.estimated_s == 64.0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda path: (path / "evaluate.json").unlink(), "evaluate.json is missing"),
        (lambda path: (path / "evaluate.json").write_text("x"), "evaluate.json was changed"),
        (lambda path: (path / "added.json").write_text("x"), "added.json was added"),
        (
            lambda path: (path / "evaluate.json").rename(path / "renamed.json"),
            "renamed.json was added",
        ),
        (lambda path: (path / MANIFEST).write_text("{"), "not readable as JSON"),
        (lambda path: (path / MANIFEST).write_text("{}"), "schema None, wanted 1"),
        (lambda path: (path / MANIFEST).write_text('{"schema": 2}'), "upgrade"),
        (lambda path: (path / MANIFEST).unlink(), "not done yet"),
    ],
)
def test_damage_is_a_reason_to_redo(world: World, fault: object, reason: str) -> None:
    world.bring("planning", "baseline")
    assert callable(fault)
    fault(world.folder("baseline").path)
    state = world.state("baseline")
    assert not state.is_done
    assert any(reason in text for text in state.reasons)
    assert world.plan("finalization")["baseline"].action == "run"


def test_phase_folder_moved_from_another_phase_is_not_done(world: World) -> None:
    world.bring("planning", "baseline", "finalization")
    baseline = world.folder("baseline").path
    baseline.rename(baseline.with_name("old"))
    world.folder("finalization").path.rename(baseline)
    state = world.state("baseline")
    assert not state.is_done
    assert "the manifest of finalization" in state.reasons[0]


@pytest.mark.parametrize("damage", [b"{", b"[]", b"{}", b'{"schema": 2}', b"\xff"])
def test_damaged_verdict_is_judged_again_and_never_honoured(world: World, damage: bytes) -> None:
    world.bring("planning", "baseline")
    (world.folder("baseline").path / VERDICT).write_bytes(damage)
    entry = world.plan("finalization")["baseline"]
    assert entry.action == "judge"
    assert VERDICT in entry.reason


def test_verdict_of_other_artifacts_is_not_honoured(world: World) -> None:
    world.bring("planning", "baseline")
    assert world.state("baseline").is_honoured
    world.do("baseline", SUFFICIENT, content="trained again")
    state = world.state("baseline")
    assert state.is_done
    assert not state.is_honoured
    assert "artifact evaluate.json changed" in state.verdict_changes


@given(data=st.data(), new=ANY_JSON)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None
)
def test_no_damage_of_manifest_or_verdict_ends_in_a_traceback(
    world: World, data: st.DataObject, new: object
) -> None:
    if world.folder("baseline").manifest() is None:
        world.bring("planning", "baseline")
    path = world.folder("baseline").path / data.draw(st.sampled_from([MANIFEST, VERDICT]))
    whole = path.read_bytes()
    stored = files.read_json(path)
    place = data.draw(st.sampled_from(places(stored)))
    try:
        files.write_json(path, replaced(stored, place, new))
        plan = world.plan("finalization")
        assert set(plan) >= set(FAST)
        if path.name == VERDICT and replaced(stored, place, new) != stored:
            free = place[:2] in (("predicate", "previous"), ("predicate", "upstream"))
            assert free or plan["baseline"].action == "judge"
    finally:
        path.write_bytes(whole)


@given(
    done=st.lists(st.sampled_from(["nothing", "done", "PASS", "FAIL"]), min_size=3, max_size=3),
    target=st.sampled_from(FAST),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
def test_only_a_prefix_of_passes_before_the_target_is_honoured(
    tmp_path_factory: pytest.TempPathFactory, done: list[str], target: str
) -> None:
    world = World(tmp_path_factory.mktemp("project"))
    for phase, how in zip(FAST, done, strict=True):
        if how != "nothing":
            world.do(phase)
        if how == "PASS":
            world.judge(phase)
        elif how == "FAIL":
            world.judge(phase, "FAIL")
    actions = {phase: entry.action for phase, entry in world.plan(target).items() if phase in FAST}
    assert actions[target] != "honour"
    before = FAST[: FAST.index(target)]
    passes = [how == "PASS" for how in done[: len(before)]]
    for index, phase in enumerate(before):
        if all(passes[: index + 1]):
            assert actions[phase] == "honour"
        else:
            assert actions[phase] in ("judge", "run")
