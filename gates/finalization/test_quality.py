"""Is anything known that speaks against the release?"""

from pytest_mltrainer.gates.outputs import need_enough, need_every_part, need_finite

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.core.ledger import record_opening
from pytest_mltrainer.release.own_tests import run_own_tests
from pytest_mltrainer.release.rivals import comparisons, rivals_of
from pytest_mltrainer.release.scanners import read_result
from pytest_mltrainer.release.secret_scan import scan_project
from pytest_mltrainer.training.run import Evaluation, TrainingRun


def test_no_critical_issues(training_run: TrainingRun, judge: Judge) -> None:
    """The project's own tests pass, no file holds a secret, and no declared scanner found anything.

    The tests run here, without `--phase`; at least one must pass: no tests prove nothing. Files
    that git holds are searched for keys and tokens, after a fresh canary of every kind was found.
    Results in `release.scanners` (SARIF: level error or security severity from 9.0; JUnit: a test
    that did not pass) must be there, not empty, younger than `release.scanner_days`, and not older
    than the code.
    """
    release, root = training_run.config.release, training_run.project.root
    without = [training_run.project.run_folder, root / release.registry]
    scan = scan_project(root, without=without, not_secrets=release.not_secrets)
    judge.equal(list(scan.blind), [], what="kinds of secrets whose canary the scan has missed")
    if not scan.files:
        judge.cannot("no file of the project was read, so no secret could have been found")
    if scan.allowed:
        judge.note(f"marked as no secrets: {', '.join(entry.text() for entry in scan.allowed)}")
    if scan.unread:
        judge.note(f"too large to be searched: {', '.join(scan.unread)}")
    judge.that(
        not scan.findings,
        what=f"secrets in {scan.files} files",
        measured="; ".join(entry.text() for entry in scan.findings[:5]) or "none",
        wanted="none: revoke them, and take them out",
    )
    _scanners_are_clean(training_run, judge)
    tests = run_own_tests(root, release.tests, timeout_s=release.tests_minutes * 60)
    judge.that(
        not tests.failed,
        what="the project's own tests that fail",
        measured="; ".join(tests.failed[:5]) or "none",
        wanted="none",
    )
    if not tests.passed:
        judge.cannot(
            f"no test of the project passed ({tests.ending}), and no tests prove nothing: write "
            "one, or name them in release.tests"
        )
    judge(tests.passed, what=f"own tests that pass ({tests.skipped} skipped)", at_least=1)


def _scanners_are_clean(run: TrainingRun, judge: Judge) -> None:
    inputs = run.manifest.steps["train"].inputs
    code = [name.removeprefix("code/") for name in inputs if name.startswith("code/")]
    written = [path.stat().st_mtime for name in code if (path := run.project.root / name).is_file()]
    for name in run.config.release.scanners:
        result = read_result(run.project.root / name)
        if not result.examined:
            judge.cannot(f"{name}: an empty result; nothing was examined")
        if result.written_s < max(written, default=0.0):
            judge.cannot(f"{name}: stale, the code is newer; run the scanner again")
        judge(
            result.age_days(),
            what=f"age of {name}",
            at_most=run.config.release.scanner_days,
            unit="days",
        )
        judge.that(
            not result.critical,
            what=f"critical findings that are open in {name} ({result.examined} examined)",
            measured="; ".join(result.critical[:5]) or "none",
            wanted="none",
        )


@guided_by("underfitting", "overfitting")
def test_not_inferior(
    training_run: TrainingRun, evaluation: Evaluation, limits: Limits, judge: Judge
) -> None:
    """The model beats a trivial one, and is not worse than the baseline or the current release.

    Predicted anew on the same test samples. The interval of the advantage over the trivial model
    must lie above 0. Against the others the objective, on the whole and in every slice of the task,
    may be worse by `objective.margin`, each guard by its own margin; it fails where even the upper
    bound of the paired interval is worse than that, so that a small test set cannot block by
    chance. The intervals share a risk of 5 % between them.
    """
    test = evaluation.test
    need_finite(test.predictions, "the test set", judge)
    need_enough(test.predictions, limits, judge)
    validation, kind = evaluation.validation.predictions, training_run.task.kind
    need_every_part(validation, test.predictions, kind, limits, judge)
    judge(
        test.above_trivial,
        what=f"advantage in {test.metric.name} over a trivial model",
        above=0.0,
        by="lower bound",
    )
    rivals = rivals_of(training_run)
    for rival in rivals:
        record_opening(training_run.run_folder, phase=training_run.phase, model=rival.model)
    if not any(rival.name.startswith("release") for rival in rivals):
        judge.note("no other release to compare with")
    for compared in comparisons(training_run, rivals):
        advantage = compared.advantage
        if advantage is None or advantage.high is None:
            judge.note(f"{compared.what}: not decidable, {compared.n} samples")
            continue
        judge(advantage, what=compared.what, at_least=-compared.margin, by="upper bound")
        if advantage.low is not None and advantage.low < -compared.margin:
            judge.note(
                f"{compared.what}: {compared.n} samples cannot exclude that it is worse by more "
                f"than {compared.margin:g}"
            )
