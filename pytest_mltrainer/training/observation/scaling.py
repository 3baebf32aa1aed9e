"""Losses as they were before mixed precision scaled them."""

from types import TracebackType
from typing import Any, Self

import torch
from torch.amp.grad_scaler import GradScaler

from pytest_mltrainer.training.observation.observer import UNSCALED, Observer


class ScalersSeen:
    """Tells an observer what every GradScaler does: the loss behind a scaled one, and updates.

    Without it the recorded loss would be thousands of times the loss, in steps of powers of two.
    """

    def __init__(self, observer: Observer) -> None:
        """Nothing is attached yet."""
        self._observer = observer
        self._scale = GradScaler.scale
        self._update = GradScaler.update

    def __enter__(self) -> Self:
        """Attach to torch."""
        scale, update, observer = self._scale, self._update, self._observer

        def observed_scale(scaler: GradScaler, outputs: Any) -> Any:
            scaled = scale(scaler, outputs)
            if isinstance(scaled, torch.Tensor) and scaled is not outputs:
                setattr(scaled, UNSCALED, outputs)
            return scaled

        def observed_update(scaler: GradScaler, *args: Any, **options: Any) -> None:
            update(scaler, *args, **options)
            observer.skipped()

        GradScaler.scale = observed_scale  # type: ignore[method-assign, assignment]
        GradScaler.update = observed_update  # type: ignore[method-assign, assignment]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach."""
        GradScaler.scale = self._scale  # type: ignore[method-assign]
        GradScaler.update = self._update  # type: ignore[method-assign]
