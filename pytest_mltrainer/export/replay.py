"""Ask model and file again for a generated input on which they disagreed, in the project's folder.

python -m pytest_mltrainer.export.replay onnx
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import FAILING_INPUTS
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.export.generated import FailingInput, Recipe
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.served import ExportedModel
from pytest_mltrainer.export.serving import test_batches
from pytest_mltrainer.export.signature import TensorSpec, as_array, named_leaves
from pytest_mltrainer.training.run import TrainingRun

SHOWN_VALUES = 1000
"""Larger inputs are not written out: the recipe makes them again."""


def failing_path(run: TrainingRun, format_name: str) -> Path:
    """Where the failing input of a format is kept: beside the gate's reports, no artifact."""
    return run.folder.artifact(f"{FAILING_INPUTS}/failing_{format_name}.json")


def keep(
    run: TrainingRun,
    format_name: str,
    failing: FailingInput | None,
    rows: Any,
    specs: Sequence[TensorSpec] = (),
) -> str:
    """Keep a failing input for replay, or drop the one that was kept; says how to replay it.

    Where the run folder cannot be written (another machine judges), the judgement stands alone.
    """
    path = failing_path(run, format_name)
    with contextlib.suppress(OSError, StorageError):
        if failing is None:
            path.unlink(missing_ok=True)
            return ""
        command = f"{Path(sys.executable).name} -m {__spec__.name} {format_name}"
        files.write_json(
            path,
            {
                "format": format_name,
                "recipe": failing.recipe.to_json(),
                "inputs": _written_out(failing.recipe.build(rows, specs)),
                "found": failing.text(),
                "replay": command,
            },
        )
        return f"; again: {command} ({path.relative_to(run.project.root)})"
    return ""


def replay(folder: Path, format_name: str) -> str:
    """What model and file say to the input that was kept. Raises UserError when there is none."""
    project = Project.load(folder)
    run = TrainingRun(project, load_config(project.config_path), "finalization")
    path = failing_path(run, format_name)
    if not path.exists():
        raise UserError(f"{path}: no failing input was kept; pytest --phase=finalization looks")
    recipe = Recipe(**files.read_json(path)["recipe"])
    exported_model = ExportedModel(run)
    file = exported_model.load(format_name)
    inputs = recipe.build(next(iter(test_batches(run))), file.metadata.inputs)
    eager, exported = run.predictor()(inputs), file(inputs)
    parity = compare(eager, exported, precision=exported_model.precision(format_name))
    lines = [f"inputs {recipe.text()}"]
    lines += [f"{name}:\n{as_array(leaf)}" for name, leaf in named_leaves(inputs).items()]
    lines += [f"the model says\n{eager}", f"{format_name} says\n{exported}"]
    verdict = "they disagree" if parity.differs else "they agree"
    difference = f"largest difference {number(parity.largest_difference)}"
    return "\n".join([*lines, f"{verdict}: {difference}, tolerated {number(parity.tolerance)}"])


def _written_out(inputs: Any) -> dict[str, Any]:
    """Values, shape and dtype of each tensor; the values of small ones only."""
    return {
        name: {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "values": array.tolist() if array.size <= SHOWN_VALUES else "see the recipe",
        }
        for name, array in ((name, as_array(leaf)) for name, leaf in named_leaves(inputs).items())
    }


def main() -> int:
    """Replay in the present folder; exit status 2 when there is nothing to replay."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    sys.path.insert(0, str(Path.cwd()))
    try:
        print(replay(Path.cwd(), sys.argv[1]))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
