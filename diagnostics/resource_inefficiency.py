"""Time or memory is spent on nothing: waiting for data, memory that grows, epochs past the best."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from pytest_mltrainer.diagnostics.readings import (
    can_patch,
    epoch_values,
    finite,
    picture,
    setting,
    step_values,
)

from pytest_mltrainer.core.evidence import (
    Cause,
    Curve,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)
from pytest_mltrainer.core.ranking import by_worth

WAITING = 0.5
WASTED_S = 60.0
LEAST_WAIT_S = 1.0
SLOW_SAMPLE_S = 1e-4
LEAST_EPOCHS = 6
GROWN_MB = 64.0
GROWN_SHARE = 0.05
IDLE_EPOCHS = 0.5
LEAST_IDLE = 10
Finding = tuple[str, list[Symptom], list[Recommendation]]


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on waste that is worth a change: slow loading, growing memory, a minute for nothing.

    Waiting: over half of the step time went into waiting for data, first steps of epochs aside,
    where loaders start, and a sample takes over 0.1 ms, many times what reading a tensor takes: a
    longer run waits in proportion. From a second on. Growing: the memory rose in each epoch behind
    the first third, by over 64 MiB and 5 % in total. Past the best: over half of the epochs, ten at
    least, came after the best one, and took over a minute.
    """
    if not evidence.epochs and evidence.steps is None:
        raise NotJudged("no steps and no epochs were recorded")
    looked = (_waiting(evidence), _growing(evidence), _past_best(evidence))
    found = [finding for finding in looked if finding is not None]
    if not found:
        return None
    symptoms = [symptom for _, part, _ in found for symptom in part]
    grows = _growing(evidence) is not None
    return Diagnosis(
        id="resource_inefficiency",
        cause=Cause.RESOURCES,
        summary=f"{'; '.join(sentence for sentence, _, _ in found)}.",
        confidence=confidence(symptoms),
        symptoms=tuple(symptoms),
        recommendations=by_worth(entry for _, _, part in found for entry in part),
        curve=_memory_curve(evidence) if grows else None,
    )


def _waiting(evidence: Evidence) -> Finding | None:
    durations, waits = step_values(evidence, "step_s"), step_values(evidence, "wait_s")
    epochs = step_values(evidence, "epoch") or [0.0] * len(durations)
    inner = [row for row in range(1, len(epochs)) if epochs[row] == epochs[row - 1]]
    inner = [row for row in inner if row < min(len(durations), len(waits))]
    total = math.fsum(_size(durations[row]) for row in inner)
    waited = math.fsum(_size(waits[row]) for row in inner)
    if total <= 0 or waited / total <= WAITING or waited < LEAST_WAIT_S:
        return None
    batch = finite(setting(evidence, "training.batch_size")) or 1.0
    typical = median(_size(waits[row]) for row in inner)
    if waited < WASTED_S and typical < SLOW_SAMPLE_S * batch:
        return None
    workers = finite(setting(evidence, "training.loader_workers"))
    patch = {}
    if workers is not None and can_patch(evidence, "training.loader_workers"):
        patch = {"training.loader_workers": max(2, 2 * int(workers))}
    return (
        f"{waited / total:.0%} of the step time went into waiting for data",
        [Symptom(what="share of waiting", measured=waited / total, limit=WAITING)],
        [
            Recommendation(
                instruction="load with more workers", patch=patch, impact="high", risk="low"
            ),
            Recommendation(
                instruction="decode and resize once, before training, and keep the result in "
                "Task.data as one tensor where it fits into memory",
                impact="high",
                effort="medium",
            ),
        ],
    )


def _memory(evidence: Evidence) -> list[float]:
    held = [finite(record.memory_mb) for record in evidence.epochs]
    return [value for value in held if value is not None]


def _growing(evidence: Evidence) -> Finding | None:
    held = _memory(evidence)
    later = held[len(held) // 3 :]
    if len(held) < LEAST_EPOCHS or any(after <= before for before, after in pairwise(later)):
        return None
    grown = later[-1] - later[0]
    if grown <= max(GROWN_MB, GROWN_SHARE * abs(later[0])):
        return None
    updates = evidence.epochs[-1].steps - evidence.epochs[len(held) // 3].steps
    each = f", {grown / updates:.2g} MiB an update" if updates > 0 else ""
    return (
        f"the memory grew in every epoch, by {grown:.0f} MiB{each}",
        [Symptom(what="growth of memory", measured=grown, limit=GROWN_MB, unit="MiB")],
        [
            Recommendation(
                instruction="keep numbers, not tensors: loss.item() or .detach() for whatever is "
                "appended to a list or summed up over steps, for they hold on to whole graphs",
                impact="high",
                effort="medium",
            )
        ],
    )


def _past_best(evidence: Evidence) -> Finding | None:
    values = epoch_values(evidence, "validation", evidence.metric)
    if len(values) != len(evidence.epochs) or setting(evidence, "training.early_stopping"):
        return None
    known = {row: value for row, value in enumerate(values) if finite(value) is not None}
    if not known:
        return None
    sign = 1 if evidence.maximize else -1
    best = max(known, key=lambda row: (sign * known[row], -row))
    after = len(values) - 1 - best
    wasted = _seconds(evidence, best + 1)
    if after < LEAST_IDLE or after / len(values) <= IDLE_EPOCHS or wasted < WASTED_S:
        return None
    patience = max(5, best // 2)
    known_key = can_patch(evidence, "training.early_stopping")
    stopping = {"training.early_stopping": {"patience": patience, "min_delta": 0.0}}
    return (
        f"{after} of {len(values)} epochs ({wasted:.0f} s) came after the best one",
        [Symptom(what="share behind the best", measured=after / len(values), limit=IDLE_EPOCHS)],
        [
            Recommendation(
                instruction=f"stop when validation has not improved for {patience} epochs",
                patch=stopping if known_key else {},
                impact="medium",
            )
        ],
    )


def _seconds(evidence: Evidence, first: int) -> float:
    durations: Sequence[float] = [record.duration_s for record in evidence.epochs[first:]]
    return math.fsum(_size(value) for value in durations)


def _size(value: float) -> float:
    read = finite(value)
    return max(0.0, read) if read is not None else 0.0


def _memory_curve(evidence: Evidence) -> Curve | None:
    held = _memory(evidence)
    return picture("memory", ("epoch", "MiB"), range(len(held)), held)
