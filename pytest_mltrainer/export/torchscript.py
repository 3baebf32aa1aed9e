"""TorchScript, for programs in C++ and older runtimes: a trace that was proven to be whole."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.format import ExportError
from pytest_mltrainer.export.graph import LeavesModule, graph_of
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.refusal import ExportLog, listening, refusal
from pytest_mltrainer.export.signature import METADATA, Metadata, TensorSpec, as_array, named_leaves
from pytest_mltrainer.training.task import Task

NAME = "TorchScript"
PROVEN_BATCHES = (1, 3)
"""Sizes other than the traced one: what a trace took for a constant shows here."""


class TorchScriptExporter:
    """Traces the model, after torch.export has shown that no branch depends on the data.

    A trace alone would follow such a branch in silence. A size that it keeps shows in batches of
    other sizes, and is refused.
    """

    file_name = "model.torchscript.pt"
    loader = "pytest_mltrainer.export.torch_model:TorchScriptModel"

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        """Write `model.torchscript.pt`."""
        graph_of(NAME, task, model, inputs, metadata.inputs)
        leaves = tuple(named_leaves(inputs).values())
        module = LeavesModule(task, model.eval(), inputs).eval()
        temporary = path.with_name(f"{files.TEMPORARY}{path.name}")
        with listening() as log, torch.no_grad():
            try:
                traced = torch.jit.trace(module, leaves, check_trace=False)
                torch.jit.save(traced, temporary, _extra_files={METADATA: metadata.text()})
            except OSError as error:
                raise files.storage_error("write", path, error) from error
            except Exception as error:  # the tracer raises RuntimeError for whatever it cannot do
                raise refusal(NAME, error, log) from error
            try:
                rows = list(zip(leaves, metadata.inputs, strict=True))
                _prove(module, torch.jit.load(temporary), rows, log)
            except ExportError:
                temporary.unlink()
                raise
        files.move(temporary, path)
        return (path.name,)


EXPORTER = TorchScriptExporter()


def _prove(
    module: nn.Module, traced: Any, leaves: list[tuple[torch.Tensor, TensorSpec]], log: ExportLog
) -> None:
    """Raise ExportError unless the stored trace agrees with the model in batches of other sizes.

    Free axes behind the batch are cut in half, so that what fits together still does; inputs that
    were cut and to which the model itself has no finite answer prove nothing.
    """
    is_cut = any(spec.free_axes[1:] for _, spec in leaves)
    for size in PROVEN_BATCHES:
        rows = [_of_other_sizes(leaf, size, spec.free_axes) for leaf, spec in leaves]
        # Alike for both: a model that draws in evaluation mode is for the gate to judge.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                wanted = as_array(module(*rows))
            except Exception:
                if not is_cut:
                    raise
                continue
            if is_cut and not np.isfinite(wanted).all():
                continue
            torch.manual_seed(0)
            try:
                found = as_array(traced(*rows))
            except RuntimeError:
                found = wanted[:0]
        parity = compare(wanted, found)
        if parity.differs:
            kept = ", ".join(log.traced_constants()) or "its line is not known"
            raise ExportError(
                f"the model cannot be exported to {NAME}: for inputs of other sizes (a batch of "
                f"{size}) the trace says "
                f"something else, because it kept the value of a size or of a tensor ({kept}): use "
                "x.shape[0] and operations of torch, or the format torch_export"
            )


def _of_other_sizes(leaf: torch.Tensor, batch: int, free: tuple[int, ...]) -> torch.Tensor:
    if not leaf.ndim:
        return leaf
    rows = leaf[torch.arange(batch) % len(leaf)]
    for axis in free[1:]:
        rows = rows.narrow(axis, 0, max(rows.shape[axis] // 2, 1))
    return rows
