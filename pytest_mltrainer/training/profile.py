"""Measured facts of the data, read once at planning: sizes, scales, classes, overlaps, digests."""

import hashlib
import itertools
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.training.reproducibility import digest_nested
from pytest_mltrainer.training.task import Splits, Task

SPLITS = ("train", "validation", "test")
LIMIT_SAMPLES = 20_000
LIMIT_VALUES = 20_000_000
LIMIT_SHOWN = 5
LIMIT_CLASSES = 1_000


def profile_data(task: Task, splits: Splits) -> tuple[dict[str, Any], dict[str, Any]]:
    """`splits.json` (identities, digests, overlaps) and `data_profile.json` (values) in one pass.

    Splits larger than 20,000 samples are read at evenly spaced rows; `sampled` says how many.
    """
    columns = _Columns()
    documented: dict[str, Any] = {}
    contents: dict[str, dict[str, int]] = {}
    keys: dict[str, dict[str, int]] = {}
    targets: dict[str, list[Any]] = {}
    for name in SPLITS:
        dataset: Dataset[Any] = getattr(splits, name)
        rows = _rows(len(dataset))  # type: ignore[arg-type]
        contents[name], keys[name], targets[name] = {}, {}, []
        state = hashlib.sha256()
        for row in rows:
            value, target = dataset[row]
            content = digest_nested(value)
            key = task.sample_key(name, row)
            state.update(f"{content}{digest_nested(target)}{key}".encode())
            contents[name].setdefault(content, row)
            if key is not None:
                keys[name].setdefault(key, row)
            targets[name].append(_target(target))
            if name == "train":
                columns.add(value)
        documented[name] = {
            "n": len(dataset),  # type: ignore[arg-type]
            "sampled": len(rows),
            "digest": state.hexdigest(),
            "distinct": len(contents[name]),
        }
    overlap = _overlaps(contents, keys, documented)
    split_record = {
        "splits": documented,
        "overlap": overlap,
        "keys": "sample_key" if any(keys.values()) else "content",
        "digest": digest_value({name: part["digest"] for name, part in documented.items()}),
    }
    profile = {
        "splits": {
            name: {"n": part["n"], "sampled": part["sampled"]} for name, part in documented.items()
        },
        "inputs": columns.summary(),
        "targets": _targets(task, targets),
        "overlap": overlap,
    }
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


class _Columns:
    """Running statistics of inputs; vectors column by column, everything else as one column."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray[Any, Any]] = []
        self.values = 0
        self.shape: tuple[int, ...] | None = None
        self.dtype = ""
        self.nonfinite_rows: list[int] = []
        self.seen = 0

    def add(self, value: Any) -> None:
        row = self.seen
        self.seen += 1
        if not isinstance(value, torch.Tensor | np.ndarray | float | int):
            return
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.shape = self.shape or array.shape
        self.dtype = str(array.dtype)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            self.nonfinite_rows.append(row)
        if array.shape == self.shape and self.values + array.size <= LIMIT_VALUES:
            self.values += array.size
            self.rows.append(array.astype(np.float64))

    def summary(self) -> dict[str, Any]:
        if not self.rows or self.shape is None:
            return {"judged": False, "reason": "inputs are no arrays"}
        tabular = len(self.shape) == 1
        table = np.stack(self.rows).reshape(len(self.rows), -1)
        if not tabular:
            table = table.reshape(-1, 1)
        with np.errstate(all="ignore"):
            finite = np.where(np.isfinite(table), table, np.nan)
            empty = np.isnan(finite).all(axis=0)
            finite[:, empty] = 0.0
            mean, std = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
            low, high = np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
        # Not std > 0: the deviation of a constant 0.1 is not 0 but a rounding error.
        varying = std[low < high]
        widest = np.argsort(-np.maximum(np.abs(low), np.abs(high)))[:LIMIT_SHOWN]
        return {
            "judged": True,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "tabular": tabular,
            "columns": int(table.shape[1]) if tabular else 1,
            "nonfinite": int((~np.isfinite(table)).sum()),
            "nonfinite_rows": self.nonfinite_rows[:LIMIT_SHOWN],
            "max_abs": float(np.maximum(np.abs(low), np.abs(high)).max()),
            "std_min": float(varying.min()) if varying.size else 0.0,
            "std_max": float(varying.max()) if varying.size else 0.0,
            "scale_ratio": float(varying.max() / varying.min()) if varying.size else 1.0,
            "constant_columns": int((low == high).sum()) if tabular else 0,
            "widest": [
                {
                    "column": int(column),
                    "mean": float(mean[column]),
                    "std": float(std[column]),
                    "min": float(low[column]),
                    "max": float(high[column]),
                }
                for column in widest
            ],
        }


def _rows(count: int) -> list[int]:
    if count <= LIMIT_SAMPLES:
        return list(range(count))
    return [int(row) for row in np.linspace(0, count - 1, LIMIT_SAMPLES)]


def _target(target: Any) -> Any:
    if isinstance(target, torch.Tensor | np.ndarray):
        return target.tolist()
    return target


def _overlaps(
    contents: dict[str, dict[str, int]],
    keys: dict[str, dict[str, int]],
    documented: dict[str, Any],
) -> dict[str, Any]:
    overlaps = {}
    for one, other in itertools.combinations(SPLITS, 2):
        shared = contents[one].keys() & contents[other].keys()
        ids = keys[one].keys() & keys[other].keys()
        pairs = [(contents[one][entry], contents[other][entry]) for entry in shared]
        pairs = pairs or [(keys[one][entry], keys[other][entry]) for entry in ids]
        smaller = min(documented[one]["sampled"], documented[other]["sampled"])
        overlaps[f"{one}/{other}"] = {
            "ids": len(ids),
            "content": len(shared),
            "share": len(shared) / smaller,
            "examples": [[one, a, other, b] for a, b in sorted(pairs)[:LIMIT_SHOWN]],
        }
    return overlaps


def _targets(task: Task, targets: dict[str, list[Any]]) -> dict[str, Any]:
    flat = np.asarray(_flatten(targets["train"]), dtype=np.float64)
    every = np.concatenate(
        [np.asarray(_flatten(part), dtype=np.float64) for part in targets.values()]
    )
    finite = flat[np.isfinite(flat)]
    summary: dict[str, Any] = {
        "nonfinite": int((~np.isfinite(every)).sum()),
        "mean": float(finite.mean()) if finite.size else 0.0,
        "std": float(finite.std()) if finite.size else 0.0,
        "min": float(finite.min()) if finite.size else 0.0,
        "max": float(finite.max()) if finite.size else 0.0,
        "classes": None,
    }
    if task.kind == "classification":
        counts = {name: Counter(map(str, _flatten(part))) for name, part in targets.items()}
        labels = sorted(set().union(*counts.values()), key=lambda label: (len(label), label))
        summary["classes"] = {
            label: {name: counts[name][label] for name in SPLITS}
            for label in labels[:LIMIT_CLASSES]
        }
    return summary


def _flatten(values: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if isinstance(value, list):
            flat.extend(_flatten(value))
        else:
            flat.append(value)
    return flat
