"""Is the issue named, and is every word about it bound to a measured value?"""

from pytest_mltrainer.diagnostics import guidance, short_guidance
from pytest_mltrainer.gates.common import examined, says_the_same

from pytest_mltrainer.core.digests import MISSING, sha256_file
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.relations import FOLLOWS
from pytest_mltrainer.core.steps import EVIDENCE
from pytest_mltrainer.training.diagnosing.diagnosis import MOST_CAUSES
from pytest_mltrainer.training.run import TrainingRun


def test_evidence_loaded(training_run: TrainingRun, judge: Judge) -> None:
    """The evidence is the baseline's: each artifact has the digest that the baseline sealed.

    Every artifact that a diagnosis reads is hashed now, and compared with what the diagnosis
    recorded and with the manifest of the phase that wrote it.
    """
    folder = training_run.run_folder
    now = {name: sha256_file(folder.path / name) for name in EVIDENCE}
    if all(digest == MISSING for digest in now.values()):
        judge.cannot("none of the baseline's evidence is there")
    recorded = training_run.json("evidence.json")
    judge.equal(
        [name for name in EVIDENCE if recorded.get(name) != now[name]],
        [],
        what=f"evidence that is not what was diagnosed, of {len(EVIDENCE)} artifacts",
    )
    sealed: dict[str, str] = {}
    for phase in ("planning", "baseline"):
        manifest = folder.phase(phase).manifest()
        artifacts = manifest.artifacts if manifest else {}
        sealed |= {f"{phase}/{name}": digest for name, digest in artifacts.items()}
    judge.equal(
        [name for name in EVIDENCE if sealed.get(name, MISSING) != now[name]],
        [],
        what="evidence that its own phase did not seal",
    )


def test_primary_issue_identified(training_run: TrainingRun, judge: Judge) -> None:
    """One issue is named, above what is known to follow from it; or near optimal, with its reason.

    The evidence is gathered anew and every diagnostic asked again; issue and consequences must be
    the recorded ones. Known relations (`core/relations.py`) say what follows from what.
    """
    found = examined(training_run)
    stored = training_run.json("diagnosis.json")
    issue = found.issue.id if found.issue else None
    judge.equal(
        stored["issue"],
        issue,
        what="primary issue, asked again",
        artifact=training_run.described("diagnosis.json"),
    )
    if issue is None:
        judge.that(
            bool(found.decision.reason) and stored["reason"] == found.decision.reason,
            what="reason for calling it near optimal",
            measured=stored["reason"],
            wanted=found.decision.reason,
        )
        return
    judge.equal(
        stored["consequences"], dict(found.findings.consequences), what=f"what follows from {issue}"
    )
    others = [entry.id for entry in found.findings.diagnoses[1:]]
    above = [name for name in others if _only_follows(issue, name)]
    judge.equal(above, [], what=f"diagnoses that {issue} itself follows from")


def test_guidance_loaded(training_run: TrainingRun, judge: Judge) -> None:
    """The page of guidance of the issue exists, and its short form stands in the report.

    Issues that the learning curve alone shows have the page of their kind (bias: underfitting,
    variance and data: overfitting). Not applicable to what no page is about.
    """
    found = examined(training_run)
    if found.issue is None:
        judge.not_applicable("near optimal: there is no issue to guide through")
    if not found.guidance:
        judge.not_applicable(f"no page of guidance is about '{found.issue.id}'")
    page, short = guidance(found.guidance), short_guidance(found.guidance)
    judge(len(page), what=f"letters of the guidance {found.guidance}.md", above=0)
    judge.that(
        bool(short) and short in training_run.text("diagnostic_report.md"),
        what=f"short guidance of {found.guidance} in the report",
        measured="missing" if short else "the page has no short form",
        wanted="there",
        artifact=training_run.described("diagnostic_report.md"),
    )


def test_symptoms_matched(training_run: TrainingRun, judge: Judge) -> None:
    """Each symptom of the issue is matched or not against a value measured anew.

    Matched are symptoms that the baseline recorded with the same value (1e-6), and what the
    learning curve must show for such an issue. Below 3 of 4 the match must be called partial.
    """
    found = examined(training_run)
    if found.issue is None:
        judge.not_applicable("near optimal: there is no issue whose symptoms could be matched")
    if not found.signs:
        judge.cannot(f"{found.issue.id} names no symptom")
    stored, again = training_run.json("diagnosis.json"), found.to_json()
    says_the_same(judge, stored["symptoms"], again["symptoms"], what="symptoms measured anew")
    matched = sum(sign.matched for sign in found.signs)
    judge.equal(stored["match"], found.match, what=f"match, {matched} of {len(found.signs)}")


def test_root_causes_evidenced(training_run: TrainingRun, judge: Judge) -> None:
    """1 to 4 causes, each bound to a measured value that comes out again; none if near optimal.

    The diagnostics are asked again over evidence gathered anew; each cause must name the recorded
    values within 1e-6, and at least one of them.
    """
    found = examined(training_run)
    stored, again = training_run.json("diagnosis.json")["causes"], found.to_json()["causes"]
    if found.issue is None:
        judge.equal(len(stored), 0, what="causes of a baseline that is near optimal")
        return
    judge(len(stored), what="root causes", at_least=1)
    judge(len(stored), what="root causes", at_most=MOST_CAUSES)
    says_the_same(judge, stored, again, what="causes with their values, measured anew")
    unbound = [cause["id"] for cause in stored if not cause["symptoms"]]
    judge.equal(unbound, [], what="causes without a measured value")


def _only_follows(name: str, cause: str) -> bool:
    return name in FOLLOWS.get(cause, {}) and cause not in FOLLOWS.get(name, {})
