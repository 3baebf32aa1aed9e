"""Outputs of an epoch's training batches, kept for its training metric."""

import torch

from pytest_mltrainer.training.ranks import Ranks

LIMIT_SAMPLES = 16_384
"""Samples that are kept; the rest of a larger epoch is not scored."""

Kept = tuple[torch.Tensor, torch.Tensor]
"""Outputs and targets, samples first."""


class KeptOutputs:
    """The outputs and targets of the present epoch so far, up to 16,384 samples over all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        """Nothing is kept yet."""
        self._ranks = ranks
        self._limit = LIMIT_SAMPLES // ranks.size
        self._parts: list[Kept] = []
        self._samples = 0

    def add(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Keep a batch, unless there are enough."""
        if self._samples < self._limit:
            self._parts.append((outputs, targets))
            self._samples += len(targets)

    def whole(self) -> Kept | None:
        """Everything in one tensor each; None where nothing is kept."""
        if not self._parts:
            return None
        self._parts = [_joined(self._parts)]
        return self._parts[0]

    def take(self) -> Kept | None:
        """What all ranks have kept, on the first one; nothing is kept afterwards."""
        own = self.whole()
        self._parts, self._samples = [], 0
        if self._ranks.size == 1:
            return own
        parts = [part for part in self._ranks.gather(own) if part]
        return _joined(parts) if parts else None


def _joined(parts: list[Kept]) -> Kept:
    outputs, targets = (torch.cat(each) for each in zip(*parts, strict=True))
    return outputs, targets
