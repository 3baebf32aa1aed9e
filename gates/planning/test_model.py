"""Is the model wired so that it can learn?"""

import fnmatch
import math

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.training.run import TrainingRun

FIRST = "rehearsal/first.json"
DTYPE_TOLERANCE = 1e-4
"""float32 sums in another order differ by 1e-6 of the scale, a leak between samples by 1e-2."""
ROUNDINGS = 10.0


def test_forward_pass(training_run: TrainingRun, judge: Judge) -> None:
    """Outputs are finite, one for each sample, and no sample's output depends on the others.

    In evaluation mode: a batch of 1 against the same sample in a batch of B, and the batch of B in
    reverse order. Tolerance 1e-4 of the outputs' scale, some 100 x float32 rounding. Beyond it, in
    a model that blows rounding up, it cannot be told whether samples mix: up to 10 x what moving
    each parameter to the next number does to the outputs.
    """
    found = training_run.json(FIRST)["forward"]
    tolerance = DTYPE_TOLERANCE * max(found["scale"], 1.0)
    shape = f"{found['output_shape']} {found['output_dtype']}"
    judge.equal(found["output_shape"][0], found["batch_size"], what=f"outputs of a batch, {shape}")
    judge.equal(found["finite"], True, what="outputs are finite")
    rounding = found["rounding_difference"]
    for what, difference in (
        ("batch of 1 against batch of B", found["single_difference"]),
        ("influence of the other samples", found["mixing_difference"]),
    ):
        if tolerance < difference <= ROUNDINGS * rounding:
            judge.cannot(
                f"{what}: {difference:.2g}, wanted at most {tolerance:.2g}, but rounding alone "
                f"moves the outputs by {rounding:.2g}: weights or inputs are too large for the "
                "depth of the model"
            )
        judge(difference, what=what, at_most=tolerance)


@guided_by("underfitting")
def test_model_trainable(training_run: TrainingRun, limits: Limits, judge: Judge) -> None:
    """Every trainable parameter is reached and held once, and a tiny batch can be learned.

    One backward pass must give each parameter a finite gradient (`training.unused_parameters`
    declares exceptions); the optimizer must hold each once. With dropout off, 8 samples must lose
    all but `tiny_batch_loss_share` of their loss within 200 steps of Adam at one of three rates.
    """
    found = training_run.json(FIRST)["trainable"]
    declared = training_run.config.training.unused_parameters

    def undeclared(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch.fnmatch(name, p) for p in declared)]

    judge.equal(undeclared(found["without_gradient"]), [], what="parameters without a gradient")
    judge.equal(found["non_finite_gradient"], [], what="parameters with a non-finite gradient")
    judge.equal(undeclared(found["not_in_optimizer"]), [], what="parameters in no optimizer")
    judge.equal(found["twice_in_optimizer"], [], what="parameters twice in the optimizer")
    first, best = float(found["first_loss"]), float(found["best_loss"])
    classes = training_run.json("data_profile.json")["targets"]["classes"]
    if classes and len(classes) > 1 and math.isfinite(first):
        judge.note(
            f"initial loss {first:.3f}; an undecided head has ln C = {math.log(len(classes)):.3f}"
        )
    judge(
        best / first if first else 0.0,
        what=f"share of the loss left on {found['tiny_batch']} samples ({first:.4g} -> {best:.4g})",
        at_most=limits.tiny_batch_loss_share,
    )
