"""The training and evaluation steps that baseline and finalization share."""

from collections.abc import Iterable

from pytest_mltrainer.phases.common import PhaseWork

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.training.checkpoints import CheckpointFolder
from pytest_mltrainer.training.environment import capture_environment, peak_memory
from pytest_mltrainer.training.ranks import RANKS_FILE, Ranks
from pytest_mltrainer.training.reproducibility import choose_device, numerics_fingerprint
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.tracking import project_data

TRAINED = ["checkpoints/*.pt", "telemetry/*", "fault.json", "resources.json", RANKS_FILE]


def train(phase: PhaseWork, *, identity: str = "") -> Iterable[str]:
    """Train the task in a session, going on from the last checkpoint of a killed attempt.

    `identity` is the digest of what the training is made from; by default that of the phase's step.
    """
    config = phase.config.for_phase(phase.phase)
    ranks = Ranks.join(phase.request, choose_device(config.device))
    session = TrainingSession.open(
        phase.project,
        phase.config,
        phase.phase,
        phase.task,
        phase.output,
        report=phase.report,
        ranks=ranks,
    )
    phase.data_files = project_data(phase.project, session.data_files)
    phase.numerics = numerics_fingerprint(session.device)
    session.identity = ranks.broadcast(identity or _identity(phase))
    _resume(phase, session)
    session.run()
    ranks.leave()
    if session.fault is not None:
        phase.write_json("fault.json", session.fault)
    phase.write_json("resources.json", peak_memory(session.device))
    phase.record["environment"] = capture_environment(session.device)
    phase.record["upstream"] = phase.upstream_identity("planning")
    return TRAINED


def run_so_far(phase: PhaseWork) -> TrainingRun:
    """The training run whose artifacts this attempt is still making."""
    return TrainingRun(phase.project, phase.config, phase.phase, phase.output)


def _identity(phase: PhaseWork) -> str:
    step = next(step for step in STEPS[phase.phase] if step.name == "train")
    return digest_value(phase.inputs_of(step))


def _resume(phase: PhaseWork, session: TrainingSession) -> None:
    checkpoint = CheckpointFolder.newest(phase.output / "checkpoints", session.ranks)
    if checkpoint is not None:
        try:
            session.resume(checkpoint)
        except UserError:
            pass
        else:
            where = f"epoch {checkpoint.epoch + 1}, step {checkpoint.step}"
            phase.report({"kind": "note", "text": f"going on behind {where}"})
            return
    for pattern in TRAINED:
        for stale in phase.output.glob(pattern):
            stale.unlink()
    files.sync_folder(phase.output)
