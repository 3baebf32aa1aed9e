"""Are the splits apart, and is what is in them fit to be learned?"""

import math
from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.training.run import TrainingRun


def test_splits_documented(training_run: TrainingRun, judge: Judge) -> None:
    """Sizes and digests of the splits are recorded, and the data read again has the same ones.

    The digest runs over every sample that was read at planning, in order, with target and identity.
    """
    recorded = training_run.json("splits.json")["splits"]
    again, _ = training_run.profiled
    for name, part in again["splits"].items():
        judge.equal(recorded[name]["n"], part["n"], what=f"samples in {name}")
        judge.equal(
            recorded[name]["digest"],
            part["digest"],
            what=f"digest of {name}",
            artifact=training_run.described("splits.json"),
        )


@guided_by("data_leakage")
def test_splits_disjoint(training_run: TrainingRun, limits: Limits, judge: Judge) -> None:
    """No identity stands in two splits, and at most `max_content_duplicates` of contents do.

    Identities come from `Task.sample_key`; contents are compared by digest in any case. Both are
    found again from the data. A model that is tested on what it has seen is not tested. Tables of
    a few categories repeat their rows by nature: what independent columns would repeat, with two
    standard errors, is noted and not counted.
    """
    again, _ = training_run.profiled
    for pair, found in again["overlap"].items():
        examples = "; ".join(f"{a}[{i}] = {b}[{j}]" for a, i, b, j in found["examples"])
        judge(found["ids"], what=f"identities shared by {pair}", at_most=0)
        by_chance = _repeated_by_chance(found)
        if by_chance:
            judge.note(f"{by_chance:.1%} equal samples in {pair} are what chance explains")
        judge(
            max(0.0, found["share"] - by_chance),
            what=f"share of equal samples in {pair} ({found['content']}: {examples or 'none'})",
            at_most=limits.max_content_duplicates,
        )


def _repeated_by_chance(overlap: Mapping[str, Any]) -> float:
    """The share of samples that would be equal in independent columns, and two errors of it."""
    chance, count = overlap["chance"] or 0.0, overlap["content"]
    if not chance or not count:
        return 0.0
    samples = count / overlap["share"]
    return float(min(1.0, chance + 2 * math.sqrt(chance * (1 - chance) / samples)))


@guided_by("nan_loss", "unnormalized_data")
def test_data_valid(training_run: TrainingRun, limits: Limits, judge: Judge) -> None:
    """Inputs and targets are finite, and every class of training has enough samples.

    Constant columns and wide scales are noted. The limit for a class is
    `min_train_rows_per_class`: with fewer, neither training nor the check of it can decide much.
    """
    _, profile = training_run.profiled
    inputs, targets = profile["inputs"], profile["targets"]
    judge(targets["nonfinite"], what="targets that are not finite", at_most=0)
    if inputs["judged"]:
        rows = inputs["nonfinite_rows"]
        where = f" (rows {rows})" if rows else ""
        judge(inputs["nonfinite"], what=f"training inputs that are not finite{where}", at_most=0)
        if inputs["constant_columns"]:
            judge.note(f"{inputs['constant_columns']} constant columns")
        if inputs["scale_ratio"] > 1e3:
            judge.note(f"column scales are apart by {inputs['scale_ratio']:.3g}")
    else:
        judge.note(f"inputs not judged: {inputs['reason']}")
    for label, counts in (targets["classes"] or {}).items():
        judge(
            counts["train"],
            what=f"training samples of class {label}",
            at_least=limits.min_train_rows_per_class,
        )
