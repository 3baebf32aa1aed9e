"""How the difference of two runs reads in a terminal: environment first, then step, then cause."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mltrainer.training.repetition.divergence import EnvironmentDifference
    from pytest_mltrainer.training.repetition.run_difference import RunDifference

LIMIT_SHOWN = 20


def difference_lines(difference: "RunDifference", names: tuple[str, str]) -> list[str]:
    """The difference, one line each; `names` are what the two runs are called."""
    width = max(len(name) for name in names)
    lines = [
        f"{letter}  {name:{width}}  {steps} steps"
        for letter, name, steps in zip("AB", names, difference.steps, strict=True)
    ]
    lines += _table("environment", difference.environment)
    lines += _table("inputs", difference.inputs)
    lines += ["", "steps"]
    divergence = difference.divergence
    if divergence is None:
        return [*lines, "  equal: generators, batches and losses of every step, gradients and "
                        "parameters wherever both were digested"]  # fmt: skip
    if divergence.equal_until >= 0:
        lines.append(f"  equal, gradients and parameters too, up to step {divergence.equal_until}")
    lines.append(f"  {divergence.text()}")
    if difference.replay is not None:
        lines.append(f"  {difference.replay.text()}")
    elif difference.why_not_replayed:
        lines.append(f"  not replayed: {difference.why_not_replayed}")
    return lines


def _table(title: str, entries: "Sequence[EnvironmentDifference]") -> list[str]:
    if not entries:
        return ["", title, "  the same"]
    shown = entries[:LIMIT_SHOWN]
    name_width = max(len(entry.name) for entry in shown)
    width = max(len("A"), *(len(entry.one) for entry in shown))
    lines = ["", title, f"  {'':{name_width}}  {'A':{width}}  B"]
    lines += [f"  {entry.name:{name_width}}  {entry.one:{width}}  {entry.other}" for entry in shown]
    if len(entries) > len(shown):
        lines.append(f"  and {len(entries) - len(shown)} more")
    return lines
