"""The checks that a gate requires, read from its sources without importing them."""

import ast
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pytest_mltrainer.core.digests import digest_source, digest_value

GATES = "pytest_mltrainer.gates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One required check: `baseline/losses_finite`, its module and what its docstring promises."""

    id: str
    phase: str
    module: str
    function: str
    docstring: str

    @property
    def nodeid(self) -> str:
        """Its pytest id, the same in every install and from every folder."""
        return f"{self.module.replace('.', '/')}.py::{self.function}"


@cache
def gates_folder() -> Path:
    """Where the gates are installed."""
    spec = find_spec(GATES)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{GATES} is not installed")
    return Path(spec.origin).parent


def gate_modules(phase: str) -> dict[str, Path]:
    """Module names of a gate with their files, in the order of their names."""
    paths = sorted((gates_folder() / phase).glob("test_*.py"))
    return {f"{GATES}.{phase}.{path.stem}": path for path in paths}


@cache
def catalogue(phase: str) -> tuple[Check, ...]:
    """Every top-level `test_*` function of the gate, in source order."""
    return tuple(
        Check(
            id=f"{phase}/{node.name.removeprefix('test_')}",
            phase=phase,
            module=module,
            function=node.name,
            docstring=ast.get_docstring(node) or "",
        )
        for module, path in gate_modules(phase).items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def source_digest(phase: str, user_files: list[Path]) -> str:
    """Digest of the sources of all checks of a gate: ours, their shared bodies, the user's."""
    ours = {path.name: digest_source(path) for path in gate_modules(phase).values()}
    ours |= {path.name: digest_source(path) for path in gates_folder().glob("*.py")}
    theirs = sorted(digest_source(path) for path in set(user_files))
    return digest_value({"ours": ours, "theirs": theirs})
