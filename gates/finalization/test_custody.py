"""Do the verdicts on the way lead to this very model?"""

from pytest_mltrainer.core.chain import read_chain
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.training.run import TrainingRun


def test_chain_of_custody(training_run: TrainingRun, judge: Judge) -> None:
    """Every verdict on the way holds, from bytes, and leads to this very model.

    Every artifact of every phase is hashed and compared with its manifest and with what the
    verdict of its phase judged; each step must have used the artifacts that lie upstream now. The
    objective is older than the first opening of the test set, and this model's opening is entered.
    How often the test set was opened and a model trained is disclosed.
    """
    chain = read_chain(training_run.run_folder, with_final_verdict=False)
    for event, count in sorted(chain.counts.items()):
        judge.note(f"{event}: {count}")
    way = " > ".join(f"{phase} {identity[:12]}" for phase, identity in chain.identities.items())
    judge.that(
        not chain.problems,
        what=f"breaks in the chain {way} > finalization",
        measured="; ".join(chain.problems[:3]) or "none",
        wanted="none",
        artifact=training_run.described("checkpoints/best.pt"),
    )
