"""Is what to try concrete, ranked and predicted, and does the decision follow?"""

from pytest_mltrainer.diagnostics import short_guidance
from pytest_mltrainer.diagnostics.readings import can_patch
from pytest_mltrainer.gates.common import config_is_patched, examined, says_the_same

from pytest_mltrainer.core.artifacts import MANIFEST
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.evidence import Recommendation
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.ranking import by_worth
from pytest_mltrainer.core.route import PREVIEWS
from pytest_mltrainer.documents.compare import differences, missing_sections
from pytest_mltrainer.training.diagnosing.bottleneck import breakdown
from pytest_mltrainer.training.diagnosing.diagnostic_report import (
    SECTIONS,
    diagnostic_report,
    report_plots,
)
from pytest_mltrainer.training.diagnosing.recommended import MOST, why_no_patch
from pytest_mltrainer.training.run import TrainingRun


def test_recommendations_concrete(training_run: TrainingRun, judge: Judge) -> None:
    """1 to 5 recommendations, each a patch that validates or an exact instruction.

    A patch is applied to the configuration of the run: it must be accepted, change something, and
    touch only keys that the run read. None at all where the baseline is near optimal.
    """
    found = examined(training_run)
    recommended = _stored(training_run)
    if found.issue is None:
        judge.equal(len(recommended), 0, what="recommendations for what is near optimal")
        return
    judge(len(recommended), what="recommendations", at_least=1)
    judge(len(recommended), what="recommendations", at_most=MOST)
    config = Config.from_json(dict(found.evidence.config))
    for entry in recommended:
        judge.that(
            bool(entry.instruction.strip()),
            what="instruction of a recommendation",
            measured="empty",
            wanted="what to do",
        )
        if entry.patch:
            problem = why_no_patch(entry.patch, config, found.evidence, can_patch)
            judge.equal(problem, "", what=f"why {dict(entry.patch)} is no patch")


def test_recommendations_ranked(training_run: TrainingRun, judge: Judge) -> None:
    """The recommendations stand in the order of impact, then effort, then risk.

    The order is computed again from their worth, and they are those that the issue's diagnoses
    give when asked anew.
    """
    found = examined(training_run)
    if found.issue is None:
        judge.not_applicable("near optimal: there is nothing to rank")
    stored = _stored(training_run)
    judge.equal(
        [entry.instruction for entry in stored],
        [entry.instruction for entry in by_worth(stored)],
        what="order of the recommendations",
    )
    says_the_same(
        judge,
        training_run.json("recommendations.json"),
        [advice.to_json() for advice in found.advice],
        what="recommendations, asked for anew",
    )


def test_improvement_predicted(training_run: TrainingRun, judge: Judge) -> None:
    """Each recommendation has a range of the objective's metric, predicted before it is tried.

    Both ends are finite, the lower one first, and it is said how the range was argued.
    """
    recommended = training_run.json("recommendations.json")
    if examined(training_run).issue is None:
        judge.not_applicable("near optimal: no improvement is predicted")
    judge(len(recommended), what="recommendations with a range", at_least=1)
    for entry in recommended:
        low, high = entry["predicted"] or (float("nan"), float("nan"))
        judge(
            high - low,
            what=f"width of the range predicted for '{entry['instruction']}'",
            at_least=0.0,
        )
        judge.that(
            bool(entry["argued"]), what="argument for the range", measured="none", wanted="one"
        )


def test_config_previewed(training_run: TrainingRun, judge: Judge) -> None:
    """The proposed configuration differs from the project's in the keys of its patch only.

    Both files are read strictly; every other key must be equal, and the patched ones must have
    the recommended values.
    """
    there = [name for name in PREVIEWS.values() if training_run.has(name)]
    found = examined(training_run)
    if not found.preview:
        judge.equal(there, [], what="proposed configurations without a patch")
        judge.not_applicable("no recommendation is a patch of the configuration")
    judge.equal(there, [found.preview], what="proposed configurations")
    config_is_patched(training_run, judge, found.preview, training_run.whole_config, found.patch)


def test_report_complete(training_run: TrainingRun, judge: Judge) -> None:
    """`diagnostic_report.md` has its sections, and each number in it equals the recomputed one.

    The document is written once more from values computed anew, and compared line by line; numbers
    may differ by 1e-6. Each of its plots exists.
    """
    name = "diagnostic_report.md"
    text, found = training_run.text(name), examined(training_run)
    judge.equal(missing_sections(text, SECTIONS), [], what=f"missing sections of {name}")
    timed = training_run.json("bottleneck.json")
    again = diagnostic_report(
        found,
        breakdown(timed["loaded"], timed["repeated"]),
        guidance=short_guidance(found.guidance) if found.guidance else "",
        evidence=training_run.json("evidence.json"),
    )
    different = [entry.text() for entry in differences(text, again)]
    judge.that(
        not different,
        what=f"lines of {name} that differ from what is recomputed",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=training_run.described(name),
    )
    missing = [plot for plot in report_plots(found) if not training_run.has(plot)]
    judge.equal(missing, [], what="missing plots of the report")


def test_decision_recorded(training_run: TrainingRun, judge: Judge) -> None:
    """The recorded decision is the one that follows: optimize, near optimal, or repair.

    repair: the baseline is not finite, does not learn, or is no better than trivial, measured anew.
    near optimal: no diagnostic sees anything, and the target is met or a flat learning curve is at
    the level of a linear model. optimize: everything else.
    """
    wanted = examined(training_run).decision.to_json()
    judge.equal(training_run.json("decision.json"), wanted, what="decision.json")
    recorded = dict(training_run.manifest.decision or {})
    judge.equal(recorded, wanted, what=f"decision in {MANIFEST}")


def _stored(run: TrainingRun) -> list[Recommendation]:
    """The stored recommendations, as what can be ranked."""
    known = ("instruction", "patch", "impact", "effort", "risk")
    return [
        Recommendation(**{name: entry[name] for name in known})
        for entry in run.json("recommendations.json")
    ]
