"""Inputs or targets are not finite: NaN or infinity in the data."""

import math

from pytest_mltrainer.diagnostics.data_facts import texts, trained
from pytest_mltrainer.diagnostics.readings import broken, epoch_values, lookup, number_in, text_in

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)
from pytest_mltrainer.core.ranking import by_worth

SPLITS = ("train", "validation", "test")
PARTS = ("inputs", "targets")
FEW_ROWS = 0.01
# A count, not an estimate: any one such value makes the loss of its batch non-finite.
CERTAIN = 0.95


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on any NaN or infinity in inputs or targets of a split that was read.

    Silent on inputs while the fresh model answers rows with a missing value by finite outputs, and
    after a training whose losses were finite throughout, on training and validation: the model or
    the loss masks such values, as on purpose. Values of the test split still count where no other
    split has any in their column, and in its targets.
    """
    if not isinstance(lookup(evidence.profile, "nonfinite"), dict):
        raise NotJudged("the profile of the data does not count values that are not finite")
    bad = [
        (split, part)
        for split in SPLITS
        for part in PARTS
        if (number_in(evidence.profile, "nonfinite", split, part, "count") or 0) > 0
        and not _masked(evidence, split, part)
    ]
    if not bad:
        if lookup(evidence.profile, "inputs", "judged") is False:
            raise NotJudged(text_in(evidence.profile, "inputs", "reason") or "inputs not judged")
        return None
    symptoms = tuple(_symptom(evidence, split, part) for split, part in bad)
    return Diagnosis(
        id="bad_input_values",
        cause=Cause.DATA_NOT_FINITE,
        summary=f"The data hold NaN or infinity ({', '.join(f'{s} {p}' for s, p in bad)}): one "
        "such value makes the loss of its batch non-finite.",
        confidence=max(CERTAIN, confidence(symptoms)),
        symptoms=symptoms,
        where="; ".join(_place(evidence, split, part) for split, part in bad),
        recommendations=by_worth(_fixes(evidence, bad)),
    )


def _masked(evidence: Evidence, split: str, part: str) -> bool:
    """Whether the values do no harm, as far as the training or, before one, the probe says."""
    found = lookup(evidence.profile, "nonfinite", split, part)
    if not trained(evidence):
        return part == "inputs" and _answers(evidence, found)
    if not _stayed_finite(evidence):
        return False
    if split != "test":
        return True
    seen_before = number_in(found, "here_only") == 0 and bool(
        sum(number_in(evidence.profile, "nonfinite", s, part, "count") or 0 for s in SPLITS[:2])
    )
    return part == "inputs" and (seen_before or _answers(evidence, found))


def _answers(evidence: Evidence, found: object) -> bool:
    """Whether the fresh model gives finite outputs for such values."""
    facts = lookup(evidence.probes, "masking")
    kinds = ("nan", "infinite") if number_in(found, "infinite") else ("nan",)
    return all(lookup(facts, kind) is True for kind in kinds)


def _stayed_finite(evidence: Evidence) -> bool:
    losses = [
        value
        for split in ("train", "validation")
        for value in epoch_values(evidence, split, "loss")
    ]
    return bool(losses) and all(map(math.isfinite, losses)) and not broken(evidence)


def _symptom(evidence: Evidence, split: str, part: str) -> Symptom:
    count = number_in(evidence.profile, "nonfinite", split, part, "count") or 0.0
    return Symptom(what=f"values of {split} {part} not finite", measured=count, limit=0.0)


def _place(evidence: Evidence, split: str, part: str) -> str:
    found = lookup(evidence.profile, "nonfinite", split, part)
    rows, columns = texts(found, "rows"), texts(found, "columns")
    affected = number_in(found, "rows_affected") or len(rows)
    place = f"{split} {part}: {affected:.0f} rows, first {', '.join(rows)}"
    return f"{place}; columns {', '.join(columns)}" if columns else place


def _fixes(evidence: Evidence, bad: list[tuple[str, str]]) -> list[Recommendation]:
    rows = number_in(evidence.profile, "nonfinite", "train", "inputs", "rows_affected") or 0
    total = number_in(evidence.profile, "splits", "train", "sampled") or 0
    fixes = []
    if any(part == "inputs" for _, part in bad):
        few = total > 0 and rows <= FEW_ROWS * total
        columns = texts(evidence.profile, "nonfinite", "train", "inputs", "columns")
        named = f" of columns {', '.join(columns)}" if columns else ""
        fixes.append(
            Recommendation(
                instruction="in Task.data, drop the rows with values that are not finite"
                if few
                else f"in Task.data, replace the values{named} by the median of training and add a "
                "column that says where (sklearn.impute.SimpleImputer(add_indicator=True))",
                impact="high",
                effort="low" if few else "medium",
            )
        )
    if any(part == "targets" for _, part in bad):
        fixes.append(
            Recommendation(
                instruction="in Task.data, drop the samples whose target is not finite, or mask "
                "them in Task.loss",
                impact="high",
            )
        )
    fixes.append(
        Recommendation(
            instruction="find where they arise (a division by zero, the logarithm of 0, a join "
            "without a partner) and mend that instead",
            impact="medium",
            effort="medium",
        )
    )
    return fixes
