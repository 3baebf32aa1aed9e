"""A patch written into the user's file: the patched keys change, everything else stays."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.config import apply_patch, flatten, load_config
from pytest_mltrainer.core.proposal import places, propose

FILE = """\
# My notes.
seed: 7
training:
  epochs: 3  # enough?
  learning_rate: 1e-3

  early_stopping:
    patience: 4
    min_delta: 0.1
  clip_norm:
  scheduler: "none"
objective: {metric: accuracy, target: 0.9}
export: {}
model: {width: 16}
"""


def proposed(text: str, patch: dict[str, Any], folder: Path) -> str:
    """What is proposed; it must read as the configuration with the patch."""
    source, target = folder / "training_config.yaml", folder / "proposed.yaml"
    source.write_text(text)
    target.write_text(propose(source, patch, "Proposed."))
    config = load_config(source)
    wanted = apply_patch(config, places(config, patch)).to_json()
    assert flatten(load_config(target).to_json()) == flatten(wanted)
    return target.read_text()


@pytest.mark.parametrize(
    ("patch", "line"),
    [
        ({"training.learning_rate": 1e-4}, "  learning_rate: 0.0001  # CHANGED 1e-3 -> 0.0001"),
        ({"training.epochs": 9}, "  epochs: 9  # enough?  # CHANGED 3 -> 9"),
        ({"training.clip_norm": 1.0}, "  clip_norm: 1.0  # CHANGED none -> 1.0"),
        ({"training.weight_decay": 0.1}, "  weight_decay: 0.1  # NEW"),
        ({"training.scheduler": "cosine"}, '  scheduler: "cosine"  # CHANGED "none" -> "cosine"'),
        ({"training.early_stopping.patience": 9}, "    patience: 9  # CHANGED 4 -> 9"),
        ({"model.width": 32}, "model: {width: 32}  # CHANGED 16 -> 32"),
        ({"model.depth": 2}, "model: {depth: 2, width: 16}  # NEW depth"),
        ({"export.formats": ["onnx"]}, 'export: {formats: ["onnx"]}  # NEW formats'),
        ({"budgets.baseline_minutes": 1.0}, 'budgets: {"baseline_minutes": 1.0}  # NEW'),
    ],
)
def test_one_key(patch: dict[str, Any], line: str, tmp_path: Path) -> None:
    lines = proposed(FILE, patch, tmp_path).splitlines()
    assert line in lines
    assert lines[:2] == ["# Proposed.", "# My notes."] or lines[2] == "# My notes."
    assert sum("CHANGED" in entry or "NEW" in entry for entry in lines) == 1


def test_a_mapping_takes_the_place_of_a_block(tmp_path: Path) -> None:
    text = proposed(FILE, {"training.early_stopping": {"patience": 2}}, tmp_path)
    assert "CHANGED patience: 4 min_delta: 0.1 -> " in text


def test_what_the_baseline_overrides_is_changed_there_too(tmp_path: Path) -> None:
    overrides = "phases:\n  baseline:\n    training: {learning_rate: 0.5}\n"
    text = proposed(FILE + overrides, {"training.learning_rate": 0.1}, tmp_path)
    assert text.count("# CHANGED") == 2
    config = load_config(tmp_path / "proposed.yaml")
    assert config.for_phase("baseline").training.learning_rate == 0.1


def test_windows_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    proposed(FILE.replace("\n", "\r\n").rstrip(), {"training.epochs": 9}, tmp_path)


@given(
    patch=st.fixed_dictionaries(
        {},
        optional={
            "training.epochs": st.integers(1, 99),
            "training.learning_rate": st.floats(1e-6, 1.0),
            "training.clip_norm": st.floats(0.1, 10.0),
            "training.weight_decay": st.floats(0.0, 1.0),
            "training.early_stopping": st.none() | st.just({"patience": 2}),
            "model.width": st.integers(1, 99),
            "model.name": st.text(alphabet="ab: #'\"{}é", max_size=6),
            "objective.target": st.floats(0.0, 1.0),
            "seed": st.integers(0, 99),
        },
    )
)
def test_any_patch_reads_as_it_was_meant(
    patch: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    proposed(FILE, patch, tmp_path_factory.mktemp("project"))
