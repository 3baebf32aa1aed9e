"""Is the file that will be deployed the model that was tested?"""

from collections.abc import Mapping
from pathlib import Path

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.export.elsewhere import RefusedElsewhere, load_elsewhere
from pytest_mltrainer.export.format import Exported
from pytest_mltrainer.export.generated import smallest_failing
from pytest_mltrainer.export.onnx_graph import stored_bytes
from pytest_mltrainer.export.parity import Predict, total
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.ranges import largest_inside
from pytest_mltrainer.export.reasons import why_they_differ
from pytest_mltrainer.export.replay import keep
from pytest_mltrainer.export.rounding import largest_noise, rounding_cost
from pytest_mltrainer.export.served import FOLDER, WEIGHTS, ExportedModel, expected_metadata
from pytest_mltrainer.export.serving import (
    Latency,
    batch_sizes,
    first_inputs,
    latency,
    parities,
    reactions,
    test_batches,
)
from pytest_mltrainer.training.reproducibility import digest_tensors
from pytest_mltrainer.training.run import TrainingRun

EXACT = "onnx"
"""The format that those with coarser numbers are made from."""


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
        precision = exported.precision(name)
        overflow = f" ({precision.overflow})" if precision and precision.overflow else ""
        for size in batches:
            judge.equal(found.rows[size], size, what=f"{name}: outputs for a batch of {size}")
            judge.that(
                found.finite[size],
                what=f"{name}: finite outputs, batch of {size}",
                measured=str(found.finite[size]) + ("" if found.finite[size] else overflow),
                wanted=True,
            )
        judge.note(
            f"{name}: {path.stat().st_size / 2**20:.3g} MiB on disk, "
            f"{found.peak_bytes / 2**20:,.0f} MiB of memory in a process that serves it"
        )
        if precision:
            _holds_such_numbers(judge, name, precision, path)
    judge.equal(exported.damaged(), [], what="files of final_model that model.json misnames")
    weights = training_run.checkpoint("best").model
    judge.equal(
        digest_tensors(exported.weights()),
        digest_tensors(weights),
        what=f"{len(weights)} stored weights against the best checkpoint",
        artifact=training_run.described(f"{FOLDER}/{WEIGHTS}"),
    )
    exact = expected_metadata(training_run)
    for name in exported.formats:
        stored = exported.load(name).metadata.to_json()
        wanted = exported.metadata(name, exact).to_json()
        for key in wanted | stored:
            judge.equal(
                stored.get(key), wanted.get(key), what=f"{name}: {key} in the metadata of the file"
            )


def _holds_such_numbers(judge: Judge, name: str, precision: Precision, path: Path) -> None:
    """Of the weights in the file, not of its name."""
    stored = stored_bytes(path)
    share = stored[precision.name.upper()] / max(sum(stored.values()), 1)
    judge(share, what=f"{name}: share of its bytes of weights in {precision.name}", above=0)


def test_export_parity(
    training_run: TrainingRun, exported: ExportedModel, limits: Limits, judge: Judge
) -> None:
    """The file on disk, in a fresh session, says what the model in evaluation mode says.

    On the whole test set, batch by batch: at most max(1, `max_flip_share`) decisions flip beyond
    the margin (classes, or labels about 0), and outputs differ by no more than rounding allows (as
    `torch.testing.assert_close`; 1.3e-6 relative and 1e-5 of the scale for float32, 2.5e-3 and 1e-3
    for onnx_fp16, inside which no number may be beyond 65504 either). On generated inputs likewise;
    the smallest that fails is named and kept in `parity/` for replay. A disagreement is traced to
    training mode, dropout, or a batch that became a constant.

    No bound of single outputs follows from int8: they must be finite, their largest difference is
    noted, and what counts is the metric on the whole test set. It may lose
    `max_quantisation_loss` of its value (1 %, as MLPerf Inference asks 99 % of float32), by the
    lower bound of the paired interval; the margin of a decision is one step of eight bits (1/127
    of the scale). In regressions the differences may also be no larger than what makes the root
    mean square error larger by that share, whatever the luck of a small test set.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    eager = training_run.predictor()
    rows = next(iter(test_batches(training_run)))
    for name in exported.formats:
        predict, precision = exported.load(name), exported.precision(name)
        try:
            parity = total(parities(training_run, eager, predict, precision))
        # Each runtime has exceptions of its own for a batch that it does not take.
        except Exception as error:
            why = why_they_differ(eager, predict, rows, precision)
            judge.fail(
                what=f"{name}: outputs for the whole test set",
                measured=f"{' '.join(str(error).split())[:300]}; {why}",
                wanted="one for each sample",
            )
        why = f"; {why_they_differ(eager, predict, rows, precision)}" if parity.differs else ""
        remedy = f"; {precision.remedy}" if precision and not why else ""
        allowed = max(1, limits.max_flip_share * parity.decisions)
        if parity.decisions:
            judge(
                parity.flips,
                what=f"{name}: decisions of {parity.decisions} flipped (agreement "
                f"{parity.agreement:.4%}{why or (remedy if parity.flips > allowed else '')})",
                at_most=allowed,
            )
        # Not by number: a NaN on one side is a difference, and nothing that could not be judged.
        judge.that(
            not parity.differs,
            what=f"{name}: largest difference of outputs on {parity.n} test samples",
            measured=f"{number(parity.largest_difference)}{why}",
            wanted=f"at most {number(parity.tolerance)}" if parity.is_elementwise else "finite",
            artifact=training_run.described(f"{FOLDER}/{exported.path(name).name}"),
        )
        if precision and precision.largest:
            _stays_in_range(training_run, judge, name, exported.path(name), predict, precision)
        if not parity.is_elementwise:
            _keeps_its_score(training_run, judge, name, predict, remedy)
        taken = predict.metadata.inputs
        failing = smallest_failing(eager, predict, rows, taken, precision)
        again = keep(training_run, name, failing, rows, taken)
        judge.that(
            failing is None,
            what=f"{name}: generated inputs on which both agree",
            measured=f"{failing.text()}{again}" if failing else "all",
            wanted="all",
        )


def _stays_in_range(
    run: TrainingRun, judge: Judge, name: str, path: Path, predict: Exported, precision: Precision
) -> None:
    """Every number inside, not the outputs alone: where this machine has no such arithmetic, it
    calculates in float32 and hides what overflows elsewhere."""
    found = largest_inside(path, predict.metadata, test_batches(run))
    if found is not None and precision.largest is not None:
        holds = found.value <= precision.largest
        judge.that(
            holds,
            what=f"{name}: largest number inside the model on the test set",
            measured=f"{found.text()}{'' if holds else f'; {precision.overflow}'}",
            wanted=f"at most {precision.largest:g}",
        )


def _keeps_its_score(
    run: TrainingRun, judge: Judge, name: str, predict: Predict, remedy: str
) -> None:
    """The metric on the whole test set, and in regressions the differences beside the errors."""
    cost, limit = rounding_cost(run, predict), run.config.limits.max_quantisation_loss
    scores = f"{number(cost.rounded_score)}, {number(cost.score)} of the model"
    decisive = cost.loss.value if cost.loss.low is None else cost.loss.low
    judge(
        cost.loss,
        what=f"{name}: share of the {run.metric.name} that is lost ({scores}"
        f"{remedy if decisive > limit else ''})",
        at_most=limit,
        by="value" if cost.loss.low is None else "lower bound",
    )
    if cost.noise is not None:
        most = largest_noise(limit)
        judge(
            cost.noise,
            what=f"{name}: differences beside the model's own errors, as root mean squares"
            f"{remedy if cost.noise > most else ''}",
            at_most=most,
        )


def test_inference_tested(
    training_run: TrainingRun, exported: ExportedModel, limits: Limits, judge: Judge
) -> None:
    """Latency per batch size is measured against its budget, and bad input gives a defined result.

    p50, p95 and p99 over 50 calls after 5 to warm up, beside those of the model in PyTorch; size
    and p50 of onnx_fp16 and onnx_int8 beside those of onnx, where that is a format too.
    `limits.latency_p95_ms` limits the p95 of a single sample; where it is not set, the value to
    write is noted: twice the p95 found here. NaN must not come out as a finite answer, a wrong
    shape or dtype must be refused, an empty batch must be refused or give no output.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    batches = {size: first_inputs(training_run, size) for size in batch_sizes(training_run)}
    eager = training_run.predictor()
    beside = {size: latency(eager, inputs) for size, inputs in batches.items()}
    every: dict[str, dict[int, Latency]] = {}
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
        every[name] = timed
        if limits.latency_p95_ms is not None:
            judge(
                timed[1].p95_ms,
                what=f"{name}: p95 latency of one sample",
                at_most=limits.latency_p95_ms,
                unit="ms",
            )
    for name in exported.formats:
        if EXACT in every and exported.precision(name):
            judge.note(_beside_exact(exported, every, name))
    if limits.latency_p95_ms is None:
        slowest_ms = max(timed[1].p95_ms for timed in every.values())
        judge.note(
            "no budget for the latency is set; on this machine twice the slowest p95 would be "
            f"limits.latency_p95_ms: {2 * slowest_ms:.2g}"
        )


def _beside_exact(
    exported: ExportedModel, every: Mapping[str, Mapping[int, Latency]], name: str
) -> str:
    """What coarser numbers gain: size and time, as shares of those of the exact file."""
    size = exported.path(name).stat().st_size / exported.path(EXACT).stat().st_size
    times = ", ".join(
        f"{found.p50_ms / every[EXACT][batch].p50_ms:.2f} x for a batch of {batch}"
        for batch, found in every[name].items()
    )
    return f"{name} beside {EXACT}: {size:.2f} x the size; p50 {times}"
