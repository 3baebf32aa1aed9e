"""How exactly a format repeats the model, where its numbers are coarser than the model's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What may be expected of numbers of one kind.

    `relative` and `absolute` are shares of the scale of a batch's outputs. `is_elementwise`: each
    output may be compared by them; else they only say which decisions are too close to count.
    `largest`: the largest finite number, where a model may well go beyond it.
    """

    name: str
    relative: float
    absolute: float
    is_elementwise: bool = True
    largest: float | None = None
    remedy: str

    def tolerance(self, scale: float) -> float:
        """The rounding to expect of outputs whose largest is `scale`."""
        return self.absolute * max(scale, 1.0) + self.relative * scale

    @property
    def overflow(self) -> str:
        """What infinite outputs come from, or nothing where such numbers do not end early."""
        if self.largest is None:
            return ""
        return (
            f"an input or a value inside the model is beyond {self.largest:g}, the largest number "
            f"of {self.name}: {self.remedy}"
        )


FLOAT16 = Precision(
    name="float16",
    relative=2.5e-3,
    absolute=1e-3,
    largest=65504.0,
    remedy="scale the inputs, normalise inside the model, or keep the format onnx",
)
"""Two to three roundings to 11 bits (2^-11 = 4.9e-4 each) for each digit that a network keeps."""

INT8 = Precision(
    name="int8",
    relative=1 / 127,
    absolute=1e-5,
    is_elementwise=False,
    remedy="keep the format onnx or take onnx_fp16; what is much larger than the rest (an input, a "
    "channel) takes the 256 steps for itself: scale the inputs, normalise inside the model",
)
"""One step of eight bits with sign over the outputs: what lies closer is not told apart.

Errors of the inner layers add up differently in every model, so that no bound of single outputs
follows from the format; what counts is what the model decides and how well it scores.
"""
