"""A loss, gradient or weight stopped being a finite number."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mltrainer.diagnostics.fixes import clipping
from pytest_mltrainer.diagnostics.readings import (
    can_patch,
    epoch_values,
    finite,
    lookup,
    number_in,
    picture,
    rose_at_once,
    setting,
    step_values,
    text_in,
)
from pytest_mltrainer.diagnostics.scores import near_linear

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.core.ranking import by_worth

LARGE_INPUT = 100.0
CALM_GRADIENT = 10.0
ROSE = 2.0
SHOWN_IDS = 5


def detect(evidence: Evidence) -> Diagnosis | None:
    """Names the first non-finite value, where it appeared, and whether the data brought it.

    Reads the replayed `fault`; without one, the first non-finite loss in the steps, then in the
    epochs. A non-finite gradient after which training went on with finite ones is a step that a
    loss scaler skipped, and is silent. Input values that are not finite make the data the cause.
    """
    if evidence.fault is None and evidence.steps is None and not evidence.epochs:
        raise NotJudged("no steps, no epochs and no fault were recorded")
    fault = evidence.fault or _first_recorded(evidence)
    if not fault:
        return None
    what = text_in(fault, "what") or "loss"
    bad_data = _bad_data(evidence, fault)
    symptoms, norms = _symptoms(evidence, fault, what), step_values(evidence, "gradient_norm")
    return Diagnosis(
        id="nan_loss",
        cause=Cause.DATA_NOT_FINITE if bad_data else Cause.NUMERICS,
        summary=_summary(evidence, what, fault, bad_data),
        # A value that is not finite is a fact, not a sign; the replay saw it once more.
        confidence=0.98 if evidence.fault else max(0.9, confidence(symptoms)),
        symptoms=symptoms,
        where=_where(fault),
        details=_details(fault),
        recommendations=_data_fix(bad_data) if bad_data else _fixes(evidence, fault),
        curve=picture(
            "gradient norm",
            ("step", "norm"),
            range(len(norms)),
            norms,
            mark=number_in(fault, "step"),
            log=True,
        ),
    )


def _first_recorded(evidence: Evidence) -> dict[str, Any] | None:
    """A fault as far as telemetry alone shows it."""
    losses, norms = step_values(evidence, "loss"), step_values(evidence, "gradient_norm")
    at, what = _first(losses), "loss"
    if at is None and (start := _lasting(norms)) is not None:
        at, what = start, "gradient"
    if at is not None:
        return {
            "what": what,
            "step": _cell(evidence, "step", at),
            "epoch": _cell(evidence, "epoch", at),
            "learning_rate": _cell(evidence, "learning_rate", at),
            "last_finite": {
                "loss": _last_finite(losses[:at]),
                "gradient_norm": _last_finite(norms[:at]),
            },
        }
    for split, name in (("train", "loss"), ("validation", "validation")):
        values = epoch_values(evidence, split, "loss")
        if (row := _first(values)) is not None:
            epoch = evidence.epochs[row].epoch if len(values) == len(evidence.epochs) else None
            return {"what": name, "epoch": epoch, "last_finite": {"loss": _last_finite(values)}}
    return None


def _first(values: Sequence[float]) -> int | None:
    return next((i for i, value in enumerate(values) if not math.isfinite(value)), None)


def _lasting(values: Sequence[float]) -> int | None:
    """Where values stop being finite for good; None if they never do, or never were."""
    last = max((i for i, value in enumerate(values) if math.isfinite(value)), default=None)
    return None if last is None or last == len(values) - 1 else last + 1


def _last_finite(values: Sequence[float]) -> float | None:
    return next((value for value in reversed(values) if math.isfinite(value)), None)


def _cell(evidence: Evidence, name: str, row: int) -> float | None:
    column = step_values(evidence, name)
    return column[row] if row < len(column) else None


def _bad_data(evidence: Evidence, fault: Mapping[str, Any]) -> str:
    """Which data are not finite: of the failing batch if it was looked at, else of the set."""
    seen = {name: lookup(fault, f"{name}_finite") for name in ("inputs", "targets")}
    for name, is_finite in seen.items():
        count = number_in(evidence.profile, name, "nonfinite") or 0
        if is_finite is False or (is_finite is None and count > 0):
            return name
    return ""


def _largest_input(evidence: Evidence, fault: Mapping[str, Any]) -> float:
    in_batch = number_in(fault, "max_abs_input")
    return in_batch or number_in(evidence.profile, "inputs", "max_abs") or 0.0


def _summary(evidence: Evidence, what: str, fault: Mapping[str, Any], bad_data: str) -> str:
    largest = _largest_input(evidence, fault)
    value = str(lookup(fault, "loss") or "").strip() if what == "loss" else ""
    shown = f" ({value})" if finite(value) is None and 0 < len(value) <= 12 else ""
    thing = "validation loss" if what == "validation" else what
    first = f"The {thing} stopped being finite{shown}"
    if bad_data:
        return f"{first} because the {bad_data} of the batch hold values that are not finite."
    if largest > LARGE_INPUT:
        return f"{first}; the inputs reach {number(largest, 1)}, a scale that invites overflow."
    if _undefined_operation(fault):
        return f"{first} out of a calm run: an operation without a value (log 0, 0/0, sqrt 0)."
    rose = rose_at_once(evidence)
    if rose is not None and rose > ROSE:
        return f"{first}: the loss rose from the first steps on, so the learning rate is too high."
    return f"{first}: the steps grew until the numbers overflowed."


def _undefined_operation(fault: Mapping[str, Any]) -> bool:
    """Whether gradients were small until the end, so that no divergence led there."""
    norm = number_in(fault, "last_finite", "gradient_norm")
    return norm is not None and norm < CALM_GRADIENT


def _symptoms(evidence: Evidence, fault: Mapping[str, Any], what: str) -> tuple[Symptom, ...]:
    lost = sum(not math.isfinite(value) for value in step_values(evidence, "loss"))
    count = float(max(1, lost)) if what == "loss" else 1.0
    read = [Symptom(what=f"non-finite {what} values", measured=count, limit=0.0)]
    if (norm := number_in(fault, "last_finite", "gradient_norm")) is not None:
        read.append(Symptom(what="last finite gradient norm", measured=norm, limit=CALM_GRADIENT))
    largest = _largest_input(evidence, fault)
    if largest > LARGE_INPUT:
        read.append(Symptom(what="largest input", measured=largest, limit=LARGE_INPUT))
    return tuple(read)


def _where(fault: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {int(value)}"
        for name in ("step", "epoch")
        if (value := number_in(fault, name)) is not None
    ]
    if module := text_in(fault, "module"):
        kind = text_in(fault, "module_type")
        parts.append(f"module {module}{f' ({kind})' if kind else ''}")
    if direction := text_in(fault, "direction"):
        parts.append(f"in the {direction} pass")
    ids = lookup(fault, "batch_ids")
    if isinstance(ids, (list, tuple)) and ids:
        more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
        parts.append(f"samples {', '.join(map(str, ids[:SHOWN_IDS]))}{more}")
    return ", ".join(parts)


def _details(fault: Mapping[str, Any]) -> tuple[str, ...]:
    named = (
        ("last finite loss", number_in(fault, "last_finite", "loss")),
        ("last finite gradient norm", number_in(fault, "last_finite", "gradient_norm")),
        ("learning rate at that step", number_in(fault, "learning_rate")),
    )
    return tuple(f"{what}: {value:.4g}" for what, value in named if value is not None)


def _data_fix(which: str) -> tuple[Recommendation, ...]:
    return (
        Recommendation(
            instruction=f"in Task.data, drop or impute the rows whose {which} are NaN or infinite "
            "(numpy.isfinite), before any scaling, and the same way in all splits",
            impact="high",
            effort="medium",
        ),
    )


def _fixes(evidence: Evidence, fault: Mapping[str, Any]) -> tuple[Recommendation, ...]:
    calm = _undefined_operation(fault)
    fixes = []
    if calm:
        place = text_in(fault, "module") or "the model and the loss"
        fixes.append(
            Recommendation(
                instruction=f"look for log, sqrt, division or exp in {place}: clamp their input "
                "(x.clamp_min(1e-8)), or use a loss on logits (CrossEntropyLoss, "
                "BCEWithLogitsLoss)",
                impact="high",
                effort="medium",
            )
        )
    if _largest_input(evidence, fault) > LARGE_INPUT:
        fixes.append(
            Recommendation(
                instruction="standardise the inputs in Task.data with mean and standard deviation "
                "of the training split",
                impact="high",
                effort="medium",
                predicted=near_linear(evidence),
            )
        )
    fixes.append(_lower_rate(evidence, fault, calm))
    fixes += clipping(evidence)
    return by_worth(fixes)


def _lower_rate(evidence: Evidence, fault: Mapping[str, Any], calm: bool) -> Recommendation:
    rate = finite(setting(evidence, "training.learning_rate"))
    known = rate is not None and can_patch(evidence, "training.learning_rate")
    used = number_in(fault, "learning_rate") or rate
    return Recommendation(
        instruction="divide the learning rate by 10"
        + ("" if known or used is None else f" (it was {used:.4g}) where the optimizer is made"),
        patch={"training.learning_rate": _tenth(rate)} if known and rate is not None else {},
        impact="medium" if calm else "high",
        predicted=near_linear(evidence),
    )


def _tenth(rate: float) -> float:
    return float(f"{rate / 10:.6g}")
