"""What simple models reach, as laws."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.references import code_score, linear_reference


@given(seed=st.integers(0, 1_000), rank=st.integers(1, 6))
def test_two_components_write_what_has_two_dimensions(seed: int, rank: int) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(60, rank)) @ draw.normal(size=(rank, 8))
    score = code_score(rows[:40], rows[40:], METRICS["r2"])
    assert score is not None
    assert (score > 1 - 1e-9) == (rank <= 2)
    assert score <= 1


def test_what_is_no_table_of_numbers_has_no_code() -> None:
    rows = np.ones((20, 4))
    assert code_score(rows, rows[:, :3], METRICS["r2"]) is None
    assert code_score(rows, np.full((5, 4), np.nan), METRICS["r2"]) is None
    assert code_score(rows[:, :1], rows[:, :1], METRICS["r2"]) is None
    assert code_score(rows, rows, METRICS["accuracy"]) is None


def test_ids_are_read_as_categories() -> None:
    draw = np.random.default_rng(0)
    ids = np.stack([draw.integers(0, 40, 900), draw.integers(0, 25, 900)], axis=1)
    liked = draw.normal(size=40)[ids[:, 0]] + draw.normal(size=25)[ids[:, 1]]
    both = ids[:700], liked[:700], ids[700:], liked[700:]
    found = linear_reference("regression", *both, METRICS["r2"])
    assert found is not None
    assert found["linear_validation"] > 0.95
    plain = linear_reference("regression", both[0] * 1.0, liked[:700], both[2] * 1.0, liked[700:],
                             METRICS["r2"])  # fmt: skip
    assert plain is not None
    assert plain["linear_validation"] < 0.2
