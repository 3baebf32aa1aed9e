"""Who may train: only what planning has passed, for exactly this code, configuration and data."""

from dataclasses import InitVar, dataclass

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UnseededTrainingError
from pytest_mltrainer.core.pipeline import inspect
from pytest_mltrainer.core.project import Project

LIMIT_REHEARSAL_STEPS = 200

_MADE_HERE = object()


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to train: `planning` is the identity of the passed verdict.

    A rehearsal, which planning itself needs for its proof, has no verdict yet: it may do
    `limit_steps` updates and no more.
    """

    planning: str
    limit_steps: int | None
    # Not a field: `dataclasses.replace` must not turn one permit into another.
    _origin: InitVar[object]

    def __post_init__(self, _origin: object) -> None:
        """Raise UnseededTrainingError unless made by this module."""
        if _origin is not _MADE_HERE:
            raise UnseededTrainingError(
                "a Permit cannot be made by hand: training starts from a passed planning gate, "
                "run `pytest --phase=baseline`"
            )

    @classmethod
    def from_planning(cls, project: Project, config: Config) -> "Permit":
        """The permit of the stored planning verdict. Raises UnseededTrainingError."""
        state = inspect(project, config, "planning", {})
        folder = RunFolder(project.run_folder).phase("planning").path
        if not state.is_done or state.manifest is None:
            why = "; ".join(state.reasons)
        elif state.verdict is None:
            why = "; ".join(state.verdict_changes) or "its gate was not judged"
        elif state.verdict.outcome != "PASS":
            why = f"its verdict is {state.verdict.outcome}"
        elif dict(state.verdict.basis.artifacts) != state.manifest.artifacts:
            why = "its verdict is about other artifacts"
        else:
            return cls(state.verdict.identity, None, _MADE_HERE)
        raise UnseededTrainingError(
            f"{folder}: planning has not passed for this code, configuration and data ({why}), "
            "so nothing may train: run `pytest --phase=planning`"
        )

    @classmethod
    def for_rehearsal(cls, limit_steps: int) -> "Permit":
        """The permit for planning's own proof: `limit_steps` updates, 200 at most."""
        if limit_steps > LIMIT_REHEARSAL_STEPS:
            raise UnseededTrainingError(
                f"a rehearsal is at most {LIMIT_REHEARSAL_STEPS} steps, {limit_steps} is training"
            )
        return cls("", limit_steps, _MADE_HERE)
