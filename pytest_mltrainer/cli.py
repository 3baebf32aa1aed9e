"""`pytest-mltrainer`: start a project, read the checklist, read the guidance."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.files import write_text
from pytest_mltrainer.core.steps import STEPS

TEMPLATES = ("task.py", "training_config.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 for a mistake on the command line."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = parsed.command
    try:
        command(parsed)
    except UserError as error:
        print(f"pytest-mltrainer: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    return 0


def init(parsed: argparse.Namespace) -> None:
    """Write task.py, training_config.yaml and the [tool.mltrainer] table; overwrite nothing."""
    folder: Path = parsed.folder
    for name in TEMPLATES:
        target = folder / name
        if target.exists():
            print(f"kept     {target} (it was there)")
        else:
            write_text(target, _template(name))
            print(f"written  {target}")
    _add_table(folder / "pyproject.toml")
    print("next: pytest --phase=baseline")


def checklist(parsed: argparse.Namespace) -> None:
    """Print every required check of the gates with what it promises."""
    for phase in [parsed.phase] if parsed.phase else STEPS:
        checks = catalogue(phase)
        print(f"{phase}: {len(checks)} checks\n")
        for check in checks:
            indented = check.docstring.replace("\n", "\n    ")
            print(f"  {check.id}\n    {indented}\n")


def explain(parsed: argparse.Namespace) -> None:
    """Render the guidance of a diagnostic in the terminal."""
    from rich.console import Console
    from rich.markdown import Markdown

    from pytest_mltrainer.diagnostics import guidance

    Console().print(Markdown(guidance(parsed.diagnostic)))


def schema(parsed: argparse.Namespace) -> None:
    """Print the JSON schema of `training_config.yaml`, for editors."""
    import json

    from pytest_mltrainer.core.config import json_schema

    print(json.dumps(json_schema(), indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-mltrainer",
        description="Training gates for PyTorch. The gates themselves run by pytest --phase=NAME.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        summary = (command.__doc__ or "").partition("\n")[0]
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=command)
        return added

    add("init", init).add_argument("folder", nargs="?", type=Path, default=Path())
    add("checklist", checklist).add_argument("phase", nargs="?", choices=list(STEPS))
    add("explain", explain).add_argument("diagnostic", help="for example nan_loss")
    add("schema", schema)
    return parser


def _template(name: str) -> str:
    return (package_files("pytest_mltrainer") / "templates" / name).read_text(encoding="utf-8")


def _add_table(path: Path) -> None:
    table = _template("pyproject.toml")
    present = path.read_text(encoding="utf-8") if path.exists() else ""
    if "[tool.mltrainer]" in present:
        print(f"kept     {path} (it has a [tool.mltrainer] table)")
        return
    write_text(path, f"{present.rstrip()}\n\n{table}" if present.strip() else table)
    print(f"written  {path} ([tool.mltrainer])")


if __name__ == "__main__":
    sys.exit(main())
