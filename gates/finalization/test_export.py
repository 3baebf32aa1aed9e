"""Is the file that will be deployed the model that was tested?"""

import numpy as np
import torch

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.export.parity import compare, try_generated
from pytest_mltrainer.export.served import ExportedModel
from pytest_mltrainer.export.serving import (
    RefusedElsewhere,
    batch_sizes,
    latency,
    load_elsewhere,
    reactions,
    test_batches,
)
from pytest_mltrainer.training.reproducibility import digest_tensors
from pytest_mltrainer.training.run import Evaluation, TrainingRun


def test_exported(training_run: TrainingRun, exported: ExportedModel, judge: Judge) -> None:
    """Every configured format loads where the user's code cannot be imported, and takes any batch.

    A fresh process in an empty folder loads the file and predicts batches of 1, 2 and B samples of
    the test set; each must give as many finite outputs as samples. `model.json` must name the bytes
    of every file, and the stored weights must be those of the best checkpoint, bit for bit.
    """
    judge.equal(exported.error, None, what="why the model could not be exported")
    for name in exported.formats:
        path = exported.path(name)
        try:
            found = load_elsewhere(training_run, exported.loader(name), path)
        except RefusedElsewhere as refusal:
            judge.fail(what=f"{name}: a process elsewhere", measured=refusal, wanted="predictions")
        for size, outputs in found.items():
            judge.equal(outputs["rows"], size, what=f"{name}: outputs for a batch of {size}")
            judge.equal(outputs["finite"], True, what=f"{name}: finite outputs, batch of {size}")
    judge.equal(exported.damaged(), [], what="files of final_model that model.json misnames")
    weights = training_run.checkpoint("best").model
    judge.equal(
        digest_tensors(exported.weights()),
        digest_tensors(weights),
        what=f"{len(weights)} stored weights against the best checkpoint",
        artifact=training_run.described("final_model/weights.safetensors"),
    )


def test_export_parity(
    training_run: TrainingRun,
    evaluation: Evaluation,
    exported: ExportedModel,
    limits: Limits,
    judge: Judge,
) -> None:
    """The file on disk, in a fresh session, says what the model in evaluation mode says.

    On the whole test set: at most max(1, `max_flip_share`) decisions flip beyond the margin, and
    outputs differ by no more than float32 rounding allows (1.3e-6 relative, 1e-5 of the scale); on
    generated inputs likewise, the smallest that fails is named.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    eager = training_run.predictor()
    for name in exported.formats:
        predict = exported.load(name)
        outputs = np.concatenate([predict(inputs) for inputs in test_batches(training_run)])
        decides = training_run.task.kind in ("classification", "sequence")
        parity = compare(evaluation.test.predictions.outputs, outputs, decides=decides)
        judge(
            parity.flips,
            what=f"{name}: decisions of {parity.n} flipped (agreement {parity.agreement:.4%})",
            at_most=max(1, limits.max_flip_share * parity.n),
        )
        # Not by number: a NaN on one side is a difference, and nothing that could not be judged.
        judge.that(
            parity.largest_difference <= parity.tolerance,
            what=f"{name}: largest difference of outputs on {parity.n} test samples",
            measured=number(parity.largest_difference),
            wanted=f"at most {number(parity.tolerance)}",
            artifact=training_run.described(f"final_model/{exported.path(name).name}"),
        )
        rows = next(iter(test_batches(training_run)))
        if not isinstance(rows, torch.Tensor):
            judge.note(f"{name}: generated inputs not tried: inputs are no single tensor")
            continue
        failing = try_generated(eager, predict, rows)
        judge.that(
            failing is None,
            what=f"{name}: generated inputs on which both agree",
            measured=failing or "all",
            wanted="all",
        )


def test_inference_tested(
    training_run: TrainingRun, exported: ExportedModel, limits: Limits, judge: Judge
) -> None:
    """Latency per batch size is measured against its budget, and bad input gives a defined result.

    p50, p95 and p99 over 50 calls after 5 to warm up. `limits.latency_p95_ms` limits the p95 of a
    single sample; without it the figures are noted. NaN must not come out as a finite answer, a
    wrong shape or dtype must be refused, an empty batch must be refused or give no output.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    for name in exported.formats:
        predict = exported.load(name)
        for size in batch_sizes(training_run):
            timed = latency(predict, training_run, size)
            judge.note(f"{name}, batch {size}: {timed.text()}")
            if size == 1:
                judge(
                    timed.p95_ms,
                    what=f"{name}: p95 latency of one sample",
                    at_most=limits.latency_p95_ms or 60_000.0,
                    unit="ms",
                )
        for fault, reaction in reactions(predict, training_run).items():
            judge.that(
                reaction.is_defined,
                what=f"{name}: {fault}",
                measured=reaction.text,
                wanted=reaction.wanted,
            )
