"""Do the documents say what is measured now, and do their commands and rules work?"""

from pytest_mltrainer.gates.common import says_the_same

from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.documents.compare import differences, missing_sections, placeholders
from pytest_mltrainer.documents.sectioned import TechnicalWords
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.export.served import FOLDER
from pytest_mltrainer.release import (
    deployment_guide,
    final_report,
    model_card,
    monitoring_guide,
    technical_documentation,
)
from pytest_mltrainer.release.documents import (
    CARD,
    DEPLOYMENT_GUIDE,
    FINAL_REPORT,
    MONITORING_GUIDE,
    TEST_RESULTS,
)
from pytest_mltrainer.release.monitoring import FALSE_ALARM_LIMIT
from pytest_mltrainer.release.monitoring_proof import FAULTS
from pytest_mltrainer.release.prometheus import prometheus_rules
from pytest_mltrainer.release.sbom import bill_differences
from pytest_mltrainer.release.service import ALERTS, BILL, NOT_CALIBRATED, RULES, calibrated
from pytest_mltrainer.training.results import TEST_SECTIONS, final_results
from pytest_mltrainer.training.run import TrainingRun

LEAST_DETECTED = 0.95
"""Share of the windows with a planted fault in which its rule must alarm."""


def test_deployment_guide(training_run: TrainingRun, judge: Judge) -> None:
    """`deployment_guide.md` is complete, its digests are the real ones, and its commands run.

    It is written anew from the files of the final model and compared line by line. Every command in
    a block marked `sh` is run in a copy of the final model's folder and must exit with 0; the
    installation is run by `clean_room_serve`. A placeholder left in `docs/model/` fails. The bill
    of materials, `sbom.cdx.json`, must say what model, metadata of packages, and predictions say.
    """
    _need_export(training_run, judge)
    _bill_is_right(training_run, judge)
    words = _words(training_run, judge)
    found = training_run.text(DEPLOYMENT_GUIDE)
    again = deployment_guide.deployment_guide(training_run, words)
    _says(training_run, judge, DEPLOYMENT_GUIDE, found, again, deployment_guide.SECTIONS)
    done = deployment_guide.run_commands(found, training_run.folder.artifact(FOLDER))
    judge(len(done), what="commands in the guide", at_least=1)
    for ran in done:
        judge.that(
            ran.status == 0,
            what=f"{ran.command}",
            measured=f"exit status {ran.status}: {ran.said}",
            wanted="exit status 0",
        )


def test_test_results(training_run: TrainingRun, judge: Judge) -> None:
    """Every number in `test_results.md` and `final_report.md` equals the recomputed one.

    Both are written anew from checkpoint, data, ledger and the verdicts upstream, and compared line
    by line; numbers may differ by 1e-6. So is `technical_documentation.md` where the configuration
    asks for it (`documents.profile`), and nothing that it asks for in `docs/model/` may be unsaid.
    """
    words = _words(training_run, judge)
    for name, again, sections in (
        (TEST_RESULTS, final_results(training_run), TEST_SECTIONS),
        (FINAL_REPORT, final_report.final_report(training_run, words), final_report.SECTIONS),
    ):
        _says(training_run, judge, name, training_run.text(name), again, sections)
    if training_run.config.documents.profile == "eu-ai-act":
        _need_export(training_run, judge)
        technical = TechnicalWords.read(training_run.project.root)
        _written(technical.unfilled(), judge)
        file = technical_documentation.TECHNICAL_DOCUMENTATION
        again = technical_documentation.technical_documentation(training_run, words, technical)
        stored = training_run.text(file)
        _says(training_run, judge, file, stored, again, technical_documentation.SECTIONS)


def test_model_card(training_run: TrainingRun, judge: Judge) -> None:
    """`final_model/model_card.md` has valid front matter, all sections, and the measured values.

    The front matter must be as the Hugging Face hub wants it (library, tags, metrics, results by
    task and data set). The limitations name the weakest class measured. A section may say "not
    applicable" with its reason, none may be empty, and no placeholder of `docs/model/` may be left.
    """
    words = _words(training_run, judge)
    found = training_run.text(CARD)
    judge.equal(model_card.front_matter_problems(found), [], what=f"front matter of {CARD}")
    again = model_card.model_card(training_run, words)
    _says(training_run, judge, CARD, found, again, model_card.SECTIONS)


def test_monitoring_guide(training_run: TrainingRun, judge: Judge) -> None:
    """The monitor is quiet on sound windows, alarms on each planted fault, and its guide says so.

    A fresh process imports the released `monitor.py` without torch. On 1,000 windows of validation
    samples that calibrated nothing, at most 5 % may alarm by any rule; of 50 windows with a planted
    fault (shift, spread, label shift, confidence, NaN burst, latency) 95 % must alarm by its rule.
    The rules must be those that calibration gives now, and `prometheus_rules.yml` those of them.
    """
    _need_export(training_run, judge)
    if training_run.has(NOT_CALIBRATED):
        judge.cannot(training_run.json(NOT_CALIBRATED)["error"])
    words = _words(training_run, judge)
    found = training_run.text(MONITORING_GUIDE)
    proof = monitoring_guide.proof_of(training_run)
    judge.equal(proof.needs_torch, False, what="the monitor imports torch")
    judge(
        proof.false_alarms,
        what=f"share of {proof.windows} sound windows with an alarm",
        at_most=FALSE_ALARM_LIMIT,
        artifact=training_run.described(RULES),
    )
    for fault, share in proof.detected.items():
        rule, done = FAULTS[fault]
        judge(
            share,
            what=f"{fault} ({done}): share of windows with an alarm of {rule}",
            at_least=LEAST_DETECTED,
        )
    says_the_same(
        judge,
        training_run.json(RULES),
        calibrated(training_run),
        what=f"{RULES}, calibrated anew on the same raw values",
    )
    _alerts_are_the_rules(training_run, judge)
    judge.equal(proof.parted, 0, what="windows in which Prometheus alerts otherwise than it alarms")
    again = monitoring_guide.monitoring_guide(training_run, words, proof)
    _says(training_run, judge, MONITORING_GUIDE, found, again, monitoring_guide.SECTIONS)


def _bill_is_right(run: TrainingRun, judge: Judge) -> None:
    bill = run.json(BILL)
    different, unread = bill_differences(run, bill)
    if unread:
        judge.note(f"{BILL}: {unread}")
    judge.that(
        not different,
        what=f"entries of {BILL} that are not those of model and packages",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=run.described(BILL),
    )


def _alerts_are_the_rules(run: TrainingRun, judge: Judge) -> None:
    """`prometheus_rules.yml` is what the rules make, letter by letter."""
    again = prometheus_rules(run.json(RULES))
    different = [
        f"line {entry.line}: found {entry.found.strip()!r}, recomputed {entry.recomputed.strip()!r}"
        for entry in differences(run.text(ALERTS), again, relative=0.0)
    ]
    judge.that(
        not different,
        what=f"lines of {ALERTS} that are not made from {RULES}",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=run.described(ALERTS),
    )


def _need_export(run: TrainingRun, judge: Judge) -> None:
    if run.has("export_error.json"):
        judge.cannot(f"there is no export: {run.json('export_error.json')['error']}")


def _words(run: TrainingRun, judge: Judge) -> Words:
    """What people wrote; fails with the file that is not filled in."""
    words = Words.read(run.project.root)
    _written(words.unfilled(), judge)
    return words


def _written(unfilled: list[str], judge: Judge) -> None:
    judge.that(
        not unfilled,
        what="what people have to write",
        measured="; ".join(unfilled) or "written",
        wanted="your answer in place of each question (`pytest-mltrainer init` writes the files)",
    )


def _says(
    run: TrainingRun, judge: Judge, name: str, found: str, again: str, sections: tuple[str, ...]
) -> None:
    """A document has its sections, no placeholder, and says what is recomputed."""
    judge.equal(missing_sections(found, sections), [], what=f"missing sections of {name}")
    judge.equal(placeholders(found), [], what=f"placeholders in {name}")
    different = [entry.text() for entry in differences(found, again)]
    judge.that(
        not different,
        what=f"lines of {name} that differ from what is recomputed",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=run.described(name),
    )
