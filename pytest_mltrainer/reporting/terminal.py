"""What the terminal shows of a pipeline: the plan, a line an epoch, and the summary."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.core.decision import TARGET_MET
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.core.pipeline import Planned
from pytest_mltrainer.core.ranking import Findings, text
from pytest_mltrainer.core.route import PREVIEWS
from pytest_mltrainer.core.work import WorkEvent

if TYPE_CHECKING:
    from pytest_mltrainer.pipeline_run import GateSummary, PipelineRun

Line = tuple[str, dict[str, Any]]

_COLOURS = {
    "PASS": "green",
    "FAIL": "red",
    "INCOMPLETE": "yellow",
    "BLOCKED": "yellow",
    "NOT NEEDED": "light",
    "AWAITING SIGNATURE": "yellow",
}
LIMIT_LINE = 160
DECIDING = {
    "baseline": "the baseline is",
    "diagnostics": "the diagnosis says",
    "optimization": "the optimization says",
}
AFTER_A_MISS = "pytest --phase=diagnostics, which explains the miss and proposes a configuration"


def progress_line(phase: str, event: WorkEvent) -> str:
    """One line for an event of a worker; empty for an event that needs none."""
    values = event.values
    if event.kind == "epoch":
        best = " *" if values["is_best"] else ""
        width = len(str(values["epochs"]))
        losses = f"loss {_short(values['train_loss'])} / {_short(values['validation_loss'])}"
        return (
            f"  {phase} epoch {values['epoch']:>{width}}/{values['epochs']}  {losses}  "
            f"{values['metric']} {_short(values['value'])}{best}  {values['duration_s']:.1f} s"
        )
    if event.kind == "step":
        return f"  {phase}: {values['step']}"
    if event.kind == "note":
        return f"  {phase}: {values['text']}"
    return ""


def plan_lines(plan: Sequence[Planned]) -> list[str]:
    """One line a phase: what will be done, why, and how long it took the last time."""
    lines = []
    for entry in plan:
        words = {"run": f"run {', '.join(entry.steps)}", "judge": "judge"}.get(
            entry.action, entry.action
        )
        time = f", about {_duration(entry.estimated_s)}" if entry.estimated_s else ""
        lines.append(_cut(f"mltrainer: {entry.phase:<12} {words}{time} ({entry.reason})"))
    return lines


def summary_lines(pipeline: "PipelineRun") -> Iterator[Line]:
    """The gates, one line for each check that did not pass, the decision, and what comes next."""
    for first in pipeline.before_repair.values():
        yield f"{_gate_line(first)}  before the repair", {"yellow": True}
    for phase in pipeline.phases:
        summary = pipeline.summaries.get(phase)
        if summary is None:
            yield f"{phase:<13}not reached", {"yellow": True}
            continue
        yield _gate_line(summary), {_COLOURS[summary.outcome]: True}
        yield from _check_lines(summary)
    for phase, subject in DECIDING.items():
        if decision := pipeline.decision(phase):
            yield _cut(f"decision: {subject} {decision['status']} ({decision['reason']})"), {}
    yield from _diagnosis_lines(pipeline)
    yield _cut(f"path: {_path(pipeline)}"), {}
    yield f"next: {_next(pipeline)}", {"bold": True}


def _path(pipeline: "PipelineRun") -> str:
    """`planning > baseline 0.912 (target 0.95) > diagnosed underfitting > round 1: 0.941`."""
    parts = []
    for phase in pipeline.phases:
        summary = pipeline.summaries.get(phase)
        if summary is None or summary.outcome in ("NOT NEEDED", "BLOCKED"):
            continue
        parts += _stations(phase, pipeline.decision(phase) or {})
    if pipeline.overlay:
        parts.insert(0, f"repaired {pipeline.overlay.issue}")
    return " > ".join(parts)


def _stations(phase: str, decision: Mapping[str, Any]) -> list[str]:
    if phase == "diagnostics" and decision:
        return [f"diagnosed {decision['reason'].partition(':')[0]}"]
    if phase == "optimization":
        rounds = decision.get("rounds", ())
        return [f"round {entry['round']}: {number(entry['value'])}" for entry in rounds]
    if decision.get("value") is None:
        return [phase]
    target = decision.get("target")
    wanted = f" (target {number(target)})" if target is not None else ""
    return [f"{phase} {number(decision['value'])}{wanted}"]


def _gate_line(summary: "GateSummary") -> str:
    counts = Counter[str](result.outcome for result in summary.results)
    parts = [f"{counts[name]} {word}" for name, word in _WORDS.items() if counts[name]]
    if summary.missing:
        parts.append(f"{len(summary.missing)} not run")
    details = ", ".join(parts) or summary.note
    identity = f"  verdict {summary.identity[:12]}" if summary.identity else ""
    return _cut(f"{summary.phase:<13}{summary.outcome:<10} {details}{identity}")


_WORDS = {
    "pass": "passed",
    "fail": "failed",
    "cannot judge": "cannot be judged",
    "not applicable": "not applicable",
    "waived": "waived",
    "awaiting signature": "awaiting signature",
}


_CHECK_COLOURS: dict[str, dict[str, Any]] = {
    "not applicable": {},
    "waived": {"yellow": True},
    "awaiting signature": {"yellow": True},
}


def _check_lines(summary: "GateSummary") -> Iterator[Line]:
    for result in summary.results:
        if result.outcome != "pass":
            reason = result.reason.strip().partition("\n")[0].removeprefix(f"{result.outcome}: ")
            colour = _CHECK_COLOURS.get(result.outcome, {"red": True})
            yield _cut(f"  {result.outcome:<14} {result.id}: {reason}"), colour


def _diagnosis_lines(pipeline: "PipelineRun") -> Iterator[Line]:
    """The first diagnosis of the phase that failed, else behind a baseline short of its target."""
    failed = [
        phase
        for phase, summary in pipeline.summaries.items()
        if summary.outcome == "FAIL" and summary.results
    ]
    decision = pipeline.decision()
    deepest = "diagnostics" if pipeline.decision("diagnostics") else "baseline"
    is_cured = pipeline.decision("optimization") is not None
    missed = [deepest] if _is_short(decision) and not is_cured else []
    for phase in [*failed, *missed][:1]:
        run = pipeline.training_run(phase)
        if run.has("diagnoses.json"):
            found = Findings.from_json(run.json("diagnoses.json"))
            tried = [entry["patch"] for entry in _recommended(pipeline, "tried")]
            for line in text(found.without(tried), run.config.to_json()).splitlines():
                yield _cut(line), {}


def _recommended(pipeline: "PipelineRun", status: str) -> list[Mapping[str, Any]]:
    """The recommendations that the rounds of the optimization have tried, or skipped."""
    if pipeline.decision("optimization") is None:
        return []
    rounds = pipeline.training_run("optimization").json("rounds.json")
    every = [entry for this in rounds for entry in this["recommendations"]]
    return [entry for entry in every if entry["status"] == status]


def _next(pipeline: "PipelineRun") -> str:
    decision, diagnosis = pipeline.decision(), pipeline.decision("diagnostics")
    for phase in pipeline.phases:
        summary = pipeline.summaries.get(phase)
        if summary is not None and summary.outcome == "AWAITING SIGNATURE":
            return "each role signs: pytest-mltrainer approve --role ROLE --key KEY"
        if summary is None or summary.outcome == "INCOMPLETE":
            return f"run the whole gate: pytest --phase={phase}"
        if summary.outcome == "FAIL" and not (phase == "baseline" and diagnosis):
            return _after_a_clear_no(pipeline, summary) or _after_a_failure(pipeline, phase)
        if summary.outcome == "BLOCKED" and diagnosis and _is_short(decision):
            return _after_diagnosis(pipeline, diagnosis)
        if summary.outcome == "BLOCKED":
            return AFTER_A_MISS if _is_short(decision) else _blocked(summary)
    if pipeline.target == "planning":
        return "pytest --phase=baseline"
    if pipeline.target == "baseline" and decision:
        return AFTER_A_MISS if _is_short(decision) else "pytest --phase=finalization"
    if pipeline.target == "diagnostics" and diagnosis:
        return _after_diagnosis(pipeline, diagnosis)
    if pipeline.target == "optimization":
        return "pytest --phase=finalization"
    return f"the model is in {pipeline.project.run_folder.name}/finalization/final_model"


def _after_a_failure(pipeline: "PipelineRun", phase: str) -> str:
    mend = f"mend what failed in {phase}, then pytest --phase={pipeline.target}"
    is_explained = phase == "baseline" and phase not in pipeline.phase_errors
    return f"{mend}; pytest --phase=diagnostics explains the run" if is_explained else mend


def _after_a_clear_no(pipeline: "PipelineRun", summary: "GateSummary") -> str:
    """What is left where the target was missed by all that was tried; empty where it was not so."""
    decision = pipeline.decision("optimization")
    failed = [result.id for result in summary.results if result.outcome == "fail"]
    if failed != ["finalization/target_met"] or not decision or decision["status"] == TARGET_MET:
        return ""
    skipped = _recommended(pipeline, "skipped")
    left = dict.fromkeys(entry["instruction"] for entry in skipped if not entry["patch"])
    results = f"{pipeline.project.run_folder.name}/optimization/optimization_results.md"
    tried = f"what was tried does not reach the target ({results})"
    if not left:
        return f"{tried}, and no diagnostic knows more: better data, another model, or its target"
    return f"{tried}; left for a person: {'; '.join(left)}"


def _blocked(summary: "GateSummary") -> str:
    return _cut(f"{summary.phase} is blocked: {summary.note}")


def _after_diagnosis(pipeline: "PipelineRun", diagnosis: Mapping[str, Any]) -> str:
    """What to do with a diagnosis: the proposed configuration where there is one."""
    if diagnosis["next"] == "finalization":
        return "pytest --phase=finalization"
    if diagnosis["next"] == "optimization":
        return "pytest --phase=optimization, which tries what the diagnosis recommends"
    folder = f"{pipeline.project.run_folder.name}/diagnostics"
    proposed = PREVIEWS[diagnosis["status"]]
    if pipeline.overlay is None and pipeline.training_run("diagnostics").has(proposed):
        return f"pytest --phase=finalization, which begins again as {folder}/{proposed} says"
    return f"do what {folder}/diagnostic_report.md recommends, then pytest --phase=baseline"


def _is_short(decision: Mapping[str, Any] | None) -> bool:
    """Whether the baseline is sound or not, but short of its target."""
    return decision is not None and bool(decision["next"] == "diagnostics")


def _short(value: str) -> str:
    return number(float(value))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _cut(line: str) -> str:
    line = "".join(character if character.isprintable() else " " for character in line)
    return line if len(line) <= LIMIT_LINE else f"{line[: LIMIT_LINE - 3]}..."
