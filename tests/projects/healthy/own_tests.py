"""The project's own tests, by a name that no gate collects."""

import torch
from task import ProjectTask

from pytest_mltrainer import Config


def test_no_row_is_in_two_splits() -> None:
    splits = ProjectTask().data(Config())
    parts = (splits.train, splits.validation, splits.test)
    rows = torch.cat([part.tensors[0] for part in parts])
    assert len(rows) == 569
    assert len(rows.unique(dim=0)) == len(rows)
