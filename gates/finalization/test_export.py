"""Is the file that will be deployed the model that was tested?"""

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.export.elsewhere import RefusedElsewhere, load_elsewhere
from pytest_mltrainer.export.generated import smallest_failing
from pytest_mltrainer.export.parity import total
from pytest_mltrainer.export.reasons import why_they_differ
from pytest_mltrainer.export.replay import keep
from pytest_mltrainer.export.served import FOLDER, WEIGHTS, ExportedModel, expected_metadata
from pytest_mltrainer.export.serving import (
    batch_sizes,
    first_inputs,
    latency,
    parities,
    reactions,
    test_batches,
)
from pytest_mltrainer.training.reproducibility import digest_tensors
from pytest_mltrainer.training.run import TrainingRun


def test_exported(training_run: TrainingRun, exported: ExportedModel, judge: Judge) -> None:
    """Every configured format loads where the user's code cannot be imported, and takes any batch.

    A fresh process in an empty folder loads the file and predicts batches of 1, 2 and B samples of
    the test set; each must give as many finite outputs as samples. The metadata in the file must
    name the inputs and outputs that the test set has, the best checkpoint and the stored weights
    by their digests; `model.json` the bytes of every file, external data included. The stored
    weights must be those of the best checkpoint, bit for bit.
    """
    judge.that(
        exported.error is None,
        what="why the model could not be exported",
        measured=exported.error or "it was",
        wanted="a file of each format",
    )
    batches = {size: first_inputs(training_run, size) for size in batch_sizes(training_run)}
    for name in exported.formats:
        path = exported.path(name)
        try:
            found = load_elsewhere(exported.loader(name), path, batches)
        except RefusedElsewhere as refusal:
            judge.fail(what=f"{name}: a process elsewhere", measured=refusal, wanted="predictions")
        for size in batches:
            judge.equal(found.rows[size], size, what=f"{name}: outputs for a batch of {size}")
            judge.equal(found.finite[size], True, what=f"{name}: finite outputs, batch of {size}")
        judge.note(
            f"{name}: {path.stat().st_size / 2**20:.2f} MiB on disk, "
            f"{found.peak_bytes / 2**20:,.0f} MiB of memory in a process that serves it"
        )
    judge.equal(exported.damaged(), [], what="files of final_model that model.json misnames")
    weights = training_run.checkpoint("best").model
    judge.equal(
        digest_tensors(exported.weights()),
        digest_tensors(weights),
        what=f"{len(weights)} stored weights against the best checkpoint",
        artifact=training_run.described(f"{FOLDER}/{WEIGHTS}"),
    )
    wanted = expected_metadata(training_run).to_json()
    for name in exported.formats:
        stored = exported.load(name).metadata.to_json()
        for key, value in wanted.items():
            judge.equal(stored[key], value, what=f"{name}: {key} in the metadata of the file")


def test_export_parity(
    training_run: TrainingRun, exported: ExportedModel, limits: Limits, judge: Judge
) -> None:
    """The file on disk, in a fresh session, says what the model in evaluation mode says.

    On the whole test set, batch by batch: at most max(1, `max_flip_share`) decisions flip beyond
    the margin (classes, or labels about 0), and outputs differ by no more than rounding allows (as
    `torch.testing.assert_close`; 1.3e-6 relative and 1e-5 of the scale for float32). On generated
    inputs likewise; the smallest that fails is named and kept in `parity/` for replay. A
    disagreement is traced to training mode, dropout, or a batch that became a constant.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    eager = training_run.predictor()
    rows = next(iter(test_batches(training_run)))
    for name in exported.formats:
        predict = exported.load(name)
        try:
            parity = total(parities(training_run, eager, predict))
        # Each runtime has exceptions of its own for a batch that it does not take.
        except Exception as error:
            why = why_they_differ(eager, predict, rows)
            judge.fail(
                what=f"{name}: outputs for the whole test set",
                measured=f"{' '.join(str(error).split())[:300]}; {why}",
                wanted="one for each sample",
            )
        why = f"; {why_they_differ(eager, predict, rows)}" if parity.differs else ""
        if parity.decisions:
            judge(
                parity.flips,
                what=f"{name}: decisions of {parity.decisions} flipped "
                f"(agreement {parity.agreement:.4%}{why})",
                at_most=max(1, limits.max_flip_share * parity.decisions),
            )
        # Not by number: a NaN on one side is a difference, and nothing that could not be judged.
        judge.that(
            not parity.differs,
            what=f"{name}: largest difference of outputs on {parity.n} test samples",
            measured=f"{number(parity.largest_difference)}{why}",
            wanted=f"at most {number(parity.tolerance)}",
            artifact=training_run.described(f"{FOLDER}/{exported.path(name).name}"),
        )
        taken = predict.metadata.inputs
        failing = smallest_failing(eager, predict, rows, taken)
        again = keep(training_run, name, failing, rows, taken)
        judge.that(
            failing is None,
            what=f"{name}: generated inputs on which both agree",
            measured=f"{failing.text()}{again}" if failing else "all",
            wanted="all",
        )


def test_inference_tested(
    training_run: TrainingRun, exported: ExportedModel, limits: Limits, judge: Judge
) -> None:
    """Latency per batch size is measured against its budget, and bad input gives a defined result.

    p50, p95 and p99 over 50 calls after 5 to warm up, beside those of the model in PyTorch.
    `limits.latency_p95_ms` limits the p95 of a single sample; where it is not set, the value to
    write is noted: twice the p95 found here. NaN must not come out as a finite answer, a wrong
    shape or dtype must be refused, an empty batch must be refused or give no output.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    batches = {size: first_inputs(training_run, size) for size in batch_sizes(training_run)}
    eager = training_run.predictor()
    beside = {size: latency(eager, inputs) for size, inputs in batches.items()}
    slowest_ms = 0.0
    for name in exported.formats:
        predict = exported.load(name)
        for fault, reaction in reactions(predict, training_run).items():
            judge.that(
                reaction.is_defined,
                what=f"{name}: {fault}",
                measured=reaction.text,
                wanted=reaction.wanted,
            )
        try:
            timed = {size: latency(predict, inputs) for size, inputs in batches.items()}
        except Exception as error:  # each runtime has exceptions of its own
            reason = " ".join(str(error).split())[:300]
            judge.fail(what=f"{name}: batches of {[*batches]}", measured=reason, wanted="outputs")
        for size, found in timed.items():
            judge.note(f"{name}, batch {size}: {found.text()}; PyTorch {beside[size].text()}")
        slowest_ms = max(slowest_ms, timed[1].p95_ms)
        if limits.latency_p95_ms is not None:
            judge(
                timed[1].p95_ms,
                what=f"{name}: p95 latency of one sample",
                at_most=limits.latency_p95_ms,
                unit="ms",
            )
    if limits.latency_p95_ms is None:
        judge.note(
            "no budget for the latency is set; on this machine twice the slowest p95 would be "
            f"limits.latency_p95_ms: {2 * slowest_ms:.2g}"
        )
