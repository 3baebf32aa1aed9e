"""What a schema refused, in plain words: found, wanted, remedy.

The words come from the JSON schema, so a new setting needs no text here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.core.document import LIMIT_PROBLEMS, Document, KeyPath, Problem
from pytest_mltrainer.core.errors import did_you_mean
from pytest_mltrainer.core.section import flatten
from pytest_mltrainer.core.strict_yaml import resolve

if TYPE_CHECKING:
    from pydantic import ValidationError

Schema = Mapping[str, Any]

_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "a text",
    "object": "a mapping",
    "null": "null",
}
_BOOLEANS = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}


def schema_problems(error: "ValidationError", schema: Schema, document: Document) -> list[Problem]:
    """One problem for each key that the schema refused and the document has not refused already."""
    refused = {problem.path for problem in document.problems}
    problems: dict[KeyPath, Problem] = {}
    # One more than is shown: looking for a similar name is slow, and a file may hold 100,000 keys.
    for entry in error.errors(include_url=False, include_context=False)[: LIMIT_PROBLEMS + 1]:
        path = tuple(part for part in entry["loc"] if part != "[key]")
        if not any(path[:length] in refused for length in range(1, len(path) + 1)):
            line = document.line_of(path)
            problems[path] = _problem(entry["type"], entry["input"], path, line, schema)
    return list(problems.values())


def free_problems(document: Document, section: str) -> Iterator[Problem]:
    """What is not JSON-like in the user's own section: not finite, not text as key, objects."""
    path: KeyPath = (section,)
    for below, found, wanted in _unfit(document.values.get(section), path):
        remedy = "write another value or delete the key"
        line = document.line_of(below)
        yield Problem(path=below, line=line, found=found, wanted=wanted, remedy=remedy)


def shown(value: object) -> str:
    """A found value with its kind: `'0,8' (text)`, `0 (whole number)`, `a list of 3`."""
    if value is None:
        return "null (nothing)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (true/false)"
    if isinstance(value, int):
        return f"{_short(str(value))} (whole number)"
    if isinstance(value, float):
        return f"{value} ({'number' if abs(value) < float('inf') else 'not a finite number'})"
    if isinstance(value, str):
        return f"{_short(repr(value))} (text)"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, Mapping):
        return f"a mapping with {_short(', '.join(map(repr, value)))}" if value else "{} (mapping)"
    return f"an object of type {type(value).__name__}"


def wanted(node: Schema, root: Schema) -> str:
    """What a node of the JSON schema accepts: `a number from 0 to 1`, `one of none, step`."""
    node = _followed(node, root)
    if "anyOf" in node:
        return " or ".join(wanted(branch, root) for branch in node["anyOf"])
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    if "examples" in node:
        return f"one of {', '.join(node['examples'])}"
    kind = node.get("type", "")
    if kind == "array":
        return f"a list, each item {wanted(node.get('items', {}), root)}"
    return _KINDS.get(kind, "a value") + _range(node)


def _problem(kind: str, given: object, path: KeyPath, line: int | None, root: Schema) -> Problem:
    if kind == "extra_forbidden":
        found, want, remedy = _unknown(path, root)
    elif kind == "missing":
        found, want, remedy = "nothing", wanted(_node(path, root), root), "add the key"
    else:
        node = _node(path, root)
        found, want, remedy = shown(given), wanted(node, root), _remedy(given, node, root)
    return Problem(path=path, line=line, found=found, wanted=want, remedy=remedy)


def _unknown(path: KeyPath, root: Schema) -> tuple[str, str, str]:
    name = str(path[-1])
    siblings = list(_solid(_node(path[:-1], root), root).get("properties", {}))
    hint = did_you_mean(name, siblings)
    if not hint:
        moved = [key for key in flatten(_names(root, root)) if key.split(".")[-1] == name]
        hint = f" Did you mean '{moved[0]}'?" if moved else ""
    if hint:
        return "an unknown key", "one that exists", f"rename or delete it.{hint}"
    own = "; a setting of your own goes below 'model' or 'data'" if len(path) == 1 else ""
    return "an unknown key", f"one of {', '.join(siblings)}", f"rename or delete it{own}"


def _names(node: Schema, root: Schema) -> dict[str, Any]:
    below = _solid(node, root).get("properties", {})
    return {key: _names(child, root) for key, child in below.items() if key != "phases"}


def _remedy(given: object, node: Schema, root: Schema) -> str:
    default = node.get("default")
    node = _solid(node, root)
    kind = node.get("type")
    if isinstance(given, str):
        known = node.get("enum") or node.get("examples") or ()
        if given.lower() in known:
            return f"write {given.lower()}"
        if known:
            return f"write one of them.{did_you_mean(given.lower(), known)}"
        if kind == "boolean" and given.lower() in _BOOLEANS:
            return f"write {_BOOLEANS[given.lower()]}"
        if kind == "array":
            return f"write a list: [{_short(given)}]"
    elif kind == "string" and "enum" not in node and isinstance(given, int | float):
        return f"write it in quotes: '{given}'" if "examples" not in node else "write one of them"
    if kind in ("integer", "number"):
        meant = _number_meant(given)
        if meant is not None and _fits(meant, node):
            return f"write {int(meant) if kind == 'integer' else meant}"
    if isinstance(default, bool | int | float | str):
        return f"write such a value, or {json.dumps(default)}, the default"
    return "write such a value, or delete the key"


def _number_meant(given: object) -> float | int | None:
    if isinstance(given, str):
        text = given.strip()
        number = resolve(text.removesuffix("%").strip().replace(",", "."))
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        return number / 100 if text.endswith("%") else number
    return given if isinstance(given, float) else None


def _fits(number: float, node: Schema) -> bool:
    return (
        abs(number) < float("inf")
        and (node["type"] == "number" or number == int(number))
        and node.get("minimum", number) <= number <= node.get("maximum", number)
        and node.get("exclusiveMinimum", -float("inf")) < number
        and number < node.get("exclusiveMaximum", float("inf"))
    )


def _range(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is None and below is None:
        return f" of at least {low:.10g}"
    start = f" from {low:.10g}" if low is not None else ""
    start = f" above {above:.10g}" if above is not None else start
    if high is not None:
        return f"{start} to {high:.10g}" if low is not None else f"{start} up to {high:.10g}"
    return f"{start} to below {below:.10g}" if below is not None else start


def _node(path: KeyPath, root: Schema) -> Schema:
    """The schema of the value at `path`; empty where the schema leaves everything open."""
    node = root
    for part in path:
        inside = _solid(node, root)
        if isinstance(part, int):
            node = inside.get("items", {})
        else:
            node = inside.get("properties", {}).get(part) or inside.get("additionalProperties", {})
    return node


def _solid(node: Schema, root: Schema) -> Schema:
    """The node behind references, and of `X or null` the X."""
    node = _followed(node, root)
    for branch in node.get("anyOf", ()):
        if branch.get("type") != "null":
            return _solid(branch, root)
    return node


def _followed(node: Schema, root: Schema) -> Schema:
    if "allOf" in node:
        node = node["allOf"][0]
    if "$ref" in node:
        return dict(root["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    return node


def _unfit(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str, str]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            if isinstance(key, str) and key and "." not in key:
                yield from _unfit(below, (*path, key))
            else:
                yield path, f"the key {key!r}", "a text without a dot as key"
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _unfit(below, (*path, index))
    elif isinstance(value, float):
        if not abs(value) < float("inf"):
            yield path, shown(value), "a finite number"
    elif not (value is None or isinstance(value, str | int)):
        yield path, shown(value), "a number, text, true, false, null, list or mapping"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
