"""Has everybody signed who has to, for this very model?"""

from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.verdict import SignedRole
from pytest_mltrainer.release.signatures import Signatures, judged_now
from pytest_mltrainer.training.run import TrainingRun


def test_code_reviewed(training_run: TrainingRun, judge: Judge) -> None:
    """Somebody who did not write the code that trained has reviewed it and signed that.

    The signature is over the digests of every source file of the final training, by a key to which
    the policy gives the role `review`. The same code, trained again, keeps its review. Who wrote
    the code is what git said at planning, and `authors` of the policy.
    """
    _signed(training_run, "review", judge)


def test_technical_approval(training_run: TrainingRun, judge: Judge) -> None:
    """Somebody answers for model and evidence: a signed, unexpired approval of this very run.

    Signed are the digests of model, exports and all artifacts, objective, limits, the verdicts
    upstream and the outcomes of all other checks, by a key to which the protected policy gives the
    role. Each role is another person; a rejection blocks.
    """
    _signed(training_run, "technical", judge)


def test_product_approval(training_run: TrainingRun, judge: Judge) -> None:
    """Somebody answers for the use that is made of the model; signed as the technical approval."""
    _signed(training_run, "product", judge)


def test_compliance_approval(training_run: TrainingRun, judge: Judge) -> None:
    """Somebody answers for law and policy; signed as the technical approval."""
    _signed(training_run, "compliance", judge)


def _signed(run: TrainingRun, role: SignedRole, judge: Judge) -> None:
    model = judged_now(run.run_folder, run.config)
    signatures = Signatures.read(run.run_folder, run.project.root, model)
    required = signatures.desk.policy.required if signatures.desk else ()
    reason = run.config.approval.not_applicable.get(role)
    if reason is not None:
        judge.equal(role in required, False, what=f"the policy requires the role {role}")
        judge.not_applicable(f"{reason} (approval.not_applicable.{role})")
    found = signatures.standing(role)
    for note in found.notes:
        judge.note(note)
    if found.outcome in ("missing", "stale"):
        judge.awaiting(
            f"{found.reason}; sign with: pytest-mltrainer approve --role {role} --key KEY"
        )
    judge.that(
        found.outcome == "approved",
        what=f"approval of the role {role}",
        measured=found.reason,
        wanted="a valid signature",
    )
