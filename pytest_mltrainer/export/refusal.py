"""Why a model cannot be exported, in the user's terms: the operator, the line, what to do.

torch wraps the cause in pages of advice; the line is in the traceback, in the graph, or in its log.
"""

import linecache
import logging
import re
import sysconfig
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mltrainer.export.format import ExportError

PACKAGE = Path(__file__).parents[1]
LIBRARIES = tuple({sysconfig.get_path("stdlib"), *map(sysconfig.get_path, ("purelib", "platlib"))})
SYMBOLS = "torch.fx.experimental.symbolic_shapes"
BECAME_CONSTANT = re.compile(r"eval Eq\(s\d+, (\d+)\).*?\(([^()\s]+:\d+) in (\w+)\)")
OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'|torch\.ops\.([\w.]+)|\b(aten::\w+)")
VIOLATED = re.compile(r"You marked .*?\.size\(\)\[([1-9])\] as dynamic")
UNROLLED = re.compile(r"_ops\.py:\d+ in decompose")
"""Where torch goes over a recurrent layer step by step."""
TOO_LONG = 300

REMEDIES = {
    "GuardOnDataDependentSymNode": (
        "a branch or a size depends on the values of a tensor (aten.item), so no graph holds it: "
        "use torch.where or torch.cond"
    ),
    "Constraints violated": (
        "the size of the batch became a constant: use x.shape[0] instead of len(x) or a number"
    ),
    "No ONNX function found": "ONNX has no such operator: use others, or another format",
    "numpy()": "NumPy cannot be part of a graph: use the operations of torch",
}


def refusal(
    format_name: str, error: BaseException, log: "ExportLog", program: Any = None
) -> ExportError:
    """The error that says which operator at which line cannot be exported, and what to do.

    `program` is the graph, where there is one: its nodes know the lines that they come from.
    """
    causes = list(_causes(error))
    words = "\n".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    called = OPERATOR.search(words)
    operator = next(filter(None, called.groups())) if called else None
    line = _line_of_node(program, operator) or _line_of_trace(causes) or log.line
    remedy = next((text for mark, text in REMEDIES.items() if mark in words), "")
    if length := VIOLATED.search(words):
        remedy = _length_remedy(int(length[1]), log)
        line = None if UNROLLED.match(line or "") else line
    parts = [
        f"operator {operator}" if operator else "",
        f"at {line}" if line else "",
        remedy or _first_line(causes[-1]),
    ]
    return ExportError(
        f"the model cannot be exported to {format_name}: {'; '.join(filter(None, parts))}"
    )


def _length_remedy(axis: int, log: "ExportLog") -> str:
    """What to do where an axis behind the batch, whose size differs between samples, got fixed."""
    if UNROLLED.match(log.line or ""):
        return (
            f"a recurrent layer (nn.LSTM, nn.GRU, nn.RNN) is unrolled over one length, but axis "
            f"{axis} differs between samples: pad all of them to one length in `data` or `collate`"
        )
    return (
        f"the size of axis {axis}, which differs between samples, became a constant: use "
        f"x.shape[{axis}] instead of a number, or pad all samples to one size"
    )


@dataclass(slots=True)
class ExportLog:
    """What torch said while it exported: where a size became a constant, and its warnings."""

    constants: list[str] = field(default_factory=list)
    warned: list[warnings.WarningMessage] = field(default_factory=list)

    @property
    def line(self) -> str | None:
        """The line at which the size of the batch became a constant, if it did."""
        return self.constants[0] if self.constants else None

    def traced_constants(self) -> list[str]:
        """The user's lines at which a trace kept the value of a tensor or of a size."""
        found = (
            _shown(entry.filename, entry.lineno)
            for entry in self.warned
            if entry.category.__name__ == "TracerWarning" and _is_users(entry.filename)
        )
        return list(dict.fromkeys(found))


@contextmanager
def listening() -> Iterator[ExportLog]:
    """Keep torch's log and warnings off the terminal, and what matters of them for the refusal."""
    log = ExportLog()
    handler = _Constants(log.constants)
    loggers = [logging.getLogger(name) for name in (SYMBOLS, "torch.onnx", "torch.export")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if logger.name == SYMBOLS else logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            log.warned = warned
            yield log
    finally:
        for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate, logger.handlers = propagate, handlers


class _Constants(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        found = BECAME_CONSTANT.search(record.getMessage())
        if found:
            self._lines.append(f"{found.group(2)} in {found.group(3)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it, the innermost last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:TOO_LONG]}"


def _line_of_trace(causes: Iterable[BaseException]) -> str | None:
    """The innermost line of the user's behind our own frames: what called us is no model."""
    found = None
    for cause in causes:
        for frame in traceback.extract_tb(cause.__traceback__):
            if Path(frame.filename).is_relative_to(PACKAGE):
                found = None
            elif _is_users(frame.filename) and frame.lineno:
                found = _shown(frame.filename, frame.lineno)
    return found


def _line_of_node(program: Any, operator: str | None) -> str | None:
    """The user's line from which the graph has the operator."""
    if program is None or operator is None:
        return None
    for node in program.graph.nodes:
        if str(node.target).startswith(operator):
            frames = re.findall(r'File "(.+?)", line (\d+)', node.stack_trace or "")
            users = [(name, int(line)) for name, line in frames if _is_users(name)]
            if users:
                return _shown(*users[-1])
    return None


def _is_users(filename: str) -> bool:
    path = Path(filename)
    return (
        path.suffix == ".py"
        and not path.is_relative_to(PACKAGE)
        and not any(path.is_relative_to(folder) for folder in LIBRARIES)
    )


def _shown(filename: str, line: int) -> str:
    """`task.py:41 (if x.mean() > 0:)`."""
    code = linecache.getline(filename, line).strip()
    return f"{Path(filename).name}:{line}{f' ({code})' if code else ''}"
