"""A proposed configuration: the user's file with a patch written into it, comments and all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pytest_mltrainer.core.config import Config, load_config


def places(config: Config, patch: Mapping[str, Any]) -> dict[str, Any]:
    """Where in the file a patch of the baseline goes, by dotted key.

    A training key that `phases.baseline` overrides is written there as well, or it would change
    nothing. `config` is the whole configuration of the project.
    """
    overrides = config.to_json()["phases"]["baseline"] or {}
    overridden = {f"training.{name}" for name in overrides.get("training") or {}}
    overridden |= {"seed"} if overrides.get("seed") is not None else set()
    found = dict(patch)
    for key, value in patch.items():
        if key in overridden:
            found[f"phases.baseline.{key}"] = value
    return found


def propose(source: Path, patch: Mapping[str, Any], heading: str) -> str:
    """The text of the configuration in `source` with `patch` in it; each change has a comment.

    The user's own comments and layout stay. Raises ConfigError for a file or patch that is not
    valid.
    """
    text = source.read_text(encoding="utf-8-sig")
    if not text.endswith("\n"):
        text += "\n"
    for key, value in places(load_config(source), patch).items():
        text = _written(text, key.split("."), value)
    return "".join(f"# {line}\n" for line in heading.splitlines()) + text


def _written(text: str, path: list[str], value: object) -> str:
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for depth, part in enumerate(path):
        below = next((entry for key, entry in node.value if key.value == part), None)
        rest = path[depth + 1 :]
        if below is None:
            return _inserted(text, node, part, _nested(rest, value))
        if not rest or not isinstance(below, yaml.MappingNode):
            return _replaced(text, below, _nested(rest, value))
        node = below
    return text


def _nested(path: list[str], value: object) -> str:
    """The value below the keys of `path`, on one line; JSON is YAML."""
    for part in reversed(path):
        value = {part: value}
    return json.dumps(value, ensure_ascii=False)


def _replaced(text: str, node: Any, new: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    old = text[start:end].rstrip()
    # Nothing is written behind the key of a null: its place begins at the colon.
    space = "" if text[start - 1 : start].isspace() else " "
    shown = " ".join(old.split()) or "none"
    return _commented(
        f"{text[:start]}{space}{new}",
        text[start + len(old) :],
        f"CHANGED {shown} -> {new}",
    )


def _inserted(text: str, mapping: Any, key: str, new: str) -> str:
    if mapping.flow_style:
        start = mapping.start_mark.index + 1
        comma = ", " if mapping.value else ""
        return _commented(f"{text[:start]}{key}: {new}{comma}", text[start:], f"NEW {key}")
    first = mapping.value[0][0].start_mark
    start = first.index - first.column
    line = f"{' ' * first.column}{key}: {new}  # NEW\n"
    return f"{text[:start]}{line}{text[start:]}"


def _commented(before: str, after: str, comment: str) -> str:
    """The comment at the end of the line that `after` begins in."""
    line, newline, rest = after.partition("\n")
    return f"{before}{line.rstrip()}  # {comment}{newline}{rest}"
