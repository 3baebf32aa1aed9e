"""Outputs whose length differs between batches are refused in the user's terms."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.task import IGNORED_TARGET, Task


class Tagging(Task):
    """One tag a token, padded by the longest of each batch."""

    kind = "sequence"

    def collate(self, samples: Sequence[Any]) -> Any:
        parts = zip(*samples, strict=True)
        tokens, tags = (pad_sequence(list(part), batch_first=True) for part in parts)
        return tokens, tags.masked_fill(tokens == 0, IGNORED_TARGET)


def test_a_split_has_one_length() -> None:
    rows = [(torch.ones(n, dtype=torch.int64),) * 2 for n in (3, 5) for _ in range(300)]
    model, device = nn.Embedding(4, 2).eval(), torch.device("cpu")
    says = r"Tagging: outputs of a sample have shape \(3, 2\) .* \(5, 2\) .* pad all samples"
    with torch.no_grad(), pytest.raises(UserError, match=says):
        predict_split(Tagging(), model, rows, Config(), device)  # type: ignore[arg-type]
