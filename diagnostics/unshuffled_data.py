"""Training labels run in order and nothing shuffles them."""

import math
from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.data_facts import did_no_harm, judged_part
from pytest_mltrainer.diagnostics.readings import can_patch, lookup, number_in, setting
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

SORTED_LIMIT = 0.5
# Standard errors above chance: one in a million.
RUNS_LIMIT = 5.0


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when `training.shuffle` is false and consecutive batches are more sorted than mixed.

    Half-way from random to fully sorted in their label shares, at the run's batch size, with runs
    of equal labels that chance does not make. Values count by tenths. Silent after a training that
    came out well, and for batches over half of the split. A task whose own loop or data set
    reorders samples is not seen.
    """
    shuffle = setting(evidence, "training.shuffle")
    if shuffle is True:
        return None
    if shuffle is not False:
        raise NotJudged("whether training shuffles is not known")
    facts = judged_part(evidence, "order")
    batch = number_in(evidence.config, "training", "batch_size")
    n = number_in(evidence.profile, "splits", "train", "n")
    if batch is None or batch < 1:
        raise NotJudged("the batch size is not known")
    if n is not None and batch > n / 2:
        return None
    found, unlike = _sortedness(facts, batch), number_in(facts, "z")
    if found is None or unlike is None:
        raise NotJudged("one class makes up nearly all samples, so batches are alike in any order")
    if found < SORTED_LIMIT or unlike < RUNS_LIMIT or did_no_harm(evidence):
        return None
    length, chance = (number_in(facts, name) for name in ("run_length", "run_length_by_chance"))
    symptoms = [Symptom(what="batches sorted by target", measured=found, limit=SORTED_LIMIT)]
    if length is not None and chance is not None and length > chance > 0:
        symptoms.append(
            Symptom(what="mean run of equal targets", measured=length, limit=chance, unit="samples")
        )
    return Diagnosis(
        id="unshuffled_data",
        cause=Cause.WIRING,
        summary="Training samples run in the order of their targets and are not shuffled: each "
        "batch teaches one part and forgets the rest.",
        confidence=confidence(symptoms),
        symptoms=tuple(symptoms),
        where=f"training split in its own order, batches of {batch:.0f}",
        recommendations=(_shuffle(evidence),),
    )


def _sortedness(facts: Mapping[str, Any], batch: float) -> float | None:
    """How sorted batches of the nearest measured size are."""
    measured = lookup(facts, "sorted")
    if not isinstance(measured, Mapping):
        return None
    sizes = [size for size in measured if str(size).isdecimal() and int(size) > 0]
    if not sizes:
        return None
    nearest = min(sizes, key=lambda size: abs(math.log(int(size) / batch)))
    return number_in(measured, str(nearest))


def _shuffle(evidence: Evidence) -> Recommendation:
    known = can_patch(evidence, "training.shuffle")
    return Recommendation(
        instruction="shuffle the training samples anew in each epoch",
        patch={"training.shuffle": True} if known else {},
        impact="high",
        predicted=near_linear(evidence),
    )
