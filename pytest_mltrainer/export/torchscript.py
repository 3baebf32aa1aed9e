"""TorchScript, for programs in C++ and older runtimes: a trace that was proven to be whole."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.format import ExportError
from pytest_mltrainer.export.graph import LeavesModule, graph_of
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.refusal import ExportLog, listening, refusal
from pytest_mltrainer.export.signature import METADATA, Metadata, as_array, named_leaves
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
        graph_of(NAME, task, model, inputs)
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
                _prove(module, torch.jit.load(temporary), leaves, log)
            except ExportError:
                temporary.unlink()
                raise
        files.move(temporary, path)
        return (path.name,)


EXPORTER = TorchScriptExporter()


def _prove(
    module: nn.Module, traced: Any, leaves: tuple[torch.Tensor, ...], log: ExportLog
) -> None:
    """Raise ExportError unless the stored trace agrees with the model in other batch sizes."""
    for size in PROVEN_BATCHES:
        rows = [leaf[torch.arange(size) % len(leaf)] if leaf.ndim else leaf for leaf in leaves]
        # Alike for both: a model that draws in evaluation mode is for the gate to judge.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            wanted = as_array(module(*rows))
            torch.manual_seed(0)
            try:
                found = as_array(traced(*rows))
            except RuntimeError:
                found = wanted[:0]
        parity = compare(wanted, found)
        if parity.differs:
            kept = ", ".join(log.traced_constants()) or "its line is not known"
            raise ExportError(
                f"the model cannot be exported to {NAME}: in a batch of {size} the trace says "
                f"something else, because it kept the value of a size or of a tensor ({kept}): use "
                "x.shape[0] and operations of torch, or the format torch_export"
            )
