"""Measured facts of the data, read once at planning: what the diagnostics of the data judge."""

import itertools
from typing import Any

import numpy as np
from torch import nn

from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.training.data.across import across_facts, merged_facts
from pytest_mltrainer.training.data.columns import LIMIT_SHOWN, Array, Moments
from pytest_mltrainer.training.data.labels import Unfit, best_reference, label_facts, problem
from pytest_mltrainer.training.data.leaks import alone_facts, line_facts
from pytest_mltrainer.training.data.neighbours import Scale, chance_equal, near_duplicates
from pytest_mltrainer.training.data.ordering import order_facts
from pytest_mltrainer.training.data.samples import NO_ARRAYS, Samples, evenly, read_split
from pytest_mltrainer.training.data.separability import label_shares, skew_facts
from pytest_mltrainer.training.data.targets import (
    Column,
    nonfinite_targets,
    target_columns,
    targets_summary,
)
from pytest_mltrainer.training.data.windows import window_facts
from pytest_mltrainer.training.data.words import words_of
from pytest_mltrainer.training.task import Splits, Task

SPLITS = ("train", "validation", "test")


def profile_data(
    task: Task, splits: Splits, *, relations: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`splits.json` (identities, digests, overlaps) and `data_profile.json` (values) in one pass.

    Splits larger than 20,000 samples are read at evenly spaced rows; `sampled` says how many.
    Empty splits are left out.
    `relations` adds what compares samples (neighbours, references, separability): seconds, which
    a check that reads the rest need not spend.
    """
    # A training that is only observed may have no validation or test data.
    given = {name: part for name in SPLITS if len(part := getattr(splits, name))}
    read = {name: read_split(task, name, part) for name, part in given.items()}
    columns = target_columns(task.kind, read)
    overlap = _overlaps(read, columns)
    documented = {
        name: {
            "n": split.n,
            "sampled": len(split.rows),
            "digest": split.digest,
            "distinct": len(set(split.contents)),
        }
        for name, split in read.items()
    }
    split_record = {
        "splits": documented,
        "overlap": overlap,
        "keys": "sample_key" if any(any(split.keys) for split in read.values()) else "content",
        "digest": digest_value({name: part["digest"] for name, part in documented.items()}),
    }
    profile = {
        "splits": {name: {"n": s.n, "sampled": len(s.rows)} for name, s in read.items()},
        "inputs": _inputs(read["train"]),
        "targets": targets_summary(task.kind, read),
        "overlap": overlap,
        "nonfinite": {
            name: {
                "inputs": s.nonfinite.to_json(s.columns()) | {"here_only": _here_only(name, read)},
                "targets": nonfinite_targets(s),
            }
            for name, s in read.items()
        },
        "order": order_facts(columns["train"], read["train"].n),
        "random": read["train"].random,
    }
    if relations and "validation" in read:
        profile["relations"] = _relations(read, columns)
    return split_record, profile


def profile_model(model: nn.Module) -> dict[str, Any]:
    """The module that inputs meet first, and how much can be trained."""
    name, first = next(
        ((name, module) for name, module in model.named_modules() if not list(module.children())
         and any(True for _ in module.parameters(recurse=False))),
        ("", model),
    )  # fmt: skip
    trainable = sum(part.numel() for part in model.parameters() if part.requires_grad)
    return {
        "first_layer": type(first).__name__,
        "first_layer_name": name,
        "trainable_parameters": trainable,
    }


def _relations(read: dict[str, Samples], columns: dict[str, Column]) -> dict[str, Any]:
    """What compares samples with one another; each part says by itself whether it was judged."""
    reason = next((split.reason for split in read.values() if split.reason), "")
    if not reason and len({split.layout for split in read.values()}) > 1:
        reason = "inputs differ in shape from split to split"
    if reason:
        unjudged = {"judged": False, "reason": reason}
        skew = {**unjudged, "labels": label_shares(columns)}
        parts = ("duplicates", "windows", "alone", "line", "labels", "across")
        return {**dict.fromkeys(parts, unjudged), "skew": skew}
    # Before the features are scaled, in place.
    words, windows, scaled = words_of(read), window_facts(read), _scaled(read)
    found = {
        "windows": windows,
        "duplicates": near_duplicates(read, scaled),
        "skew": skew_facts(read, scaled, columns),
    }
    try:
        posed = problem(read, scaled, columns, words)
    except Unfit as reason_of_it:
        unjudged = {"judged": False, "reason": str(reason_of_it)}
        return {**found, **dict.fromkeys(("alone", "line", "labels", "across"), unjudged)}
    reference, error = best_reference(posed)
    names = read["train"].columns()
    names = [names[i] for i in evenly(len(names), posed.train.shape[1])] if names else []
    found |= {
        "alone": alone_facts(posed, names),
        "line": line_facts(posed, names),
        "labels": label_facts(posed, reference, error),
    }
    if read["train"].random:
        # What is made harder on purpose obeys other rules than what is not.
        reason = "training samples are augmented at random"
        return {**found, "across": {"judged": False, "reason": reason}}
    if posed.names:
        found["labels"]["merged"] = merged_facts(posed, reference)
    return {**found, "across": across_facts(posed)}


def _scaled(read: dict[str, Samples]) -> dict[str, Array]:
    """The features of all splits by the scale of training, in place of the unscaled ones."""
    features = {name: split.features for name, split in read.items()}
    known = {name: part for name, part in features.items() if part is not None}
    scale = Scale(known["train"])
    return {name: scale.apply(part) for name, part in known.items()}


def _inputs(split: Samples) -> dict[str, Any]:
    """Scales of training's inputs; columns of a table by themselves, everything else as one."""
    found = split.moments
    if found is None or split.layout is None or split.reason == NO_ARRAYS:
        return {"judged": False, "reason": split.reason or NO_ARRAYS}
    known = found if split.tabular else found.pooled()
    empty = known.count == 0
    low, high = (np.where(empty, 0.0, part) for part in (known.low, known.high))
    # Not std > 0: the deviation of a constant 0.1 is not 0 but a rounding error.
    varying = known.std[low < high]
    shapes = [shape for _, shape in split.layout]
    bad = split.nonfinite
    return {
        "judged": True,
        "shape": list(shapes[0]) if len(shapes) == 1 else [split.width],
        "dtype": split.dtype,
        "tabular": split.tabular,
        "columns": len(known.count) if split.tabular else 1,
        "nonfinite": bad.count,
        "nonfinite_rows": bad.rows,
        "max_abs": float(np.maximum(np.abs(low), np.abs(high)).max(initial=0.0)),
        "std_min": float(varying.min()) if varying.size else 0.0,
        "std_max": float(varying.max()) if varying.size else 0.0,
        "scale_ratio": float(varying.max() / varying.min()) if varying.size else 1.0,
        "constant_columns": int((low == high).sum()) if split.tabular else 0,
        "widest": _widest(known, low, high),
    }


def _widest(known: Moments, low: Any, high: Any) -> list[dict[str, Any]]:
    order = np.argsort(-np.maximum(np.abs(low), np.abs(high)))[:LIMIT_SHOWN]
    return [
        {
            "column": int(column),
            "mean": float(known.mean[column]),
            "std": float(known.std[column]),
            "min": float(low[column]),
            "max": float(high[column]),
        }
        for column in order
    ]


def _overlaps(read: dict[str, Samples], columns: dict[str, Column]) -> dict[str, Any]:
    """Equal contents and identities by pair of splits, with what is expected by chance.

    `share` is of the samples that were read; `estimated` of all, where a split was sampled and
    most partners of its samples were not read. `chance` of such a share, and `chance_near` of the
    share of near duplicates, as `chance_equal` says, where rows are equal and features are there.
    """
    contents = {name: _first_rows(split.contents, split.rows) for name, split in read.items()}
    keys = {name: _first_rows(split.keys, split.rows) for name, split in read.items()}
    overlaps = {}
    for one, other in itertools.combinations(read, 2):
        shared = contents[one].keys() & contents[other].keys()
        ids = keys[one].keys() & keys[other].keys()
        pairs = [(contents[one][entry], contents[other][entry]) for entry in shared]
        pairs = pairs or [(keys[one][entry], keys[other][entry]) for entry in ids]
        smaller, larger = sorted((read[one], read[other]), key=lambda split: len(split.rows))
        share = len(shared) / len(smaller.rows)
        overlaps[f"{one}/{other}"] = {
            "ids": len(ids),
            "content": len(shared),
            "share": share,
            "estimated": min(1.0, share * larger.n / len(larger.rows)),
            **(
                _chance(read[one], read[other], columns[one], smaller)
                if shared
                else {"chance": 0.0, "chance_near": 0.0}
            ),
            "examples": [[one, a, other, b] for a, b in sorted(pairs)[:LIMIT_SHOWN]],
        }
    return overlaps


def _here_only(name: str, read: dict[str, Samples]) -> int:
    """Columns (places) that are not always finite in this split and are so in all others."""
    others = (set(s.nonfinite.by_column) for other, s in read.items() if other != name)
    return len(set(read[name].nonfinite.by_column).difference(*others))


def _chance(one: Samples, other: Samples, targets: Column, smaller: Samples) -> dict[str, Any]:
    """Whichever is more: columns independent of all, or of all but the class.

    Of distinct rows over those of the smaller split, as the share of equal contents; and of all.
    """
    if one.features is None or other.features is None or one.layout != other.layout:
        return {"chance": None, "chance_near": None}
    distinct, every = chance_equal(one.features, other.features)
    if targets.values is not None and targets.names:
        within = chance_equal(one.features, other.features, targets.values)
        distinct, every = max(distinct, within[0]), max(every, within[1])
    share = distinct * len(set(other.contents)) / len(smaller.rows)
    return {"chance": min(1.0, share), "chance_near": every}


def _first_rows(names: list[Any], rows: list[int]) -> dict[str, int]:
    first: dict[str, int] = {}
    for name, row in zip(names, rows, strict=True):
        if name is not None:
            first.setdefault(name, row)
    return first
