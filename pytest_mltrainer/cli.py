"""`pytest-mltrainer`: start a project, read checklist and guidance, approve and verify a run."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.files import write_text
from pytest_mltrainer.core.steps import PROFILE_TOPICS, STEPS, TOPICS
from pytest_mltrainer.release.commands import add_commands
from pytest_mltrainer.release.releasing import add_release_commands

USAGE_ERROR = 4
"""The status of pytest for the same kind of mistake."""
TEMPLATES = {
    "task.py": "task.py",
    "training_config.yaml": "training_config.yaml",
    "tests/test_task.py": "first_test.py",
    **{f"docs/model/{topic}.md": f"{topic}.md" for topic in TOPICS},
}
"""What `init` writes, and the template of each."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 2 for a mistake on the command line.

    4 for a diagnostic that does not exist, 1 where the answer is no: runs that differ, a run that
    is not production-ready.
    """
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = parsed.command
    try:
        return command(parsed) or 0
    except UserError as error:
        print(f"pytest-mltrainer: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0


def init(parsed: argparse.Namespace) -> None:
    """Write a task, its configuration, a first test and docs/model; overwrite nothing."""
    folder: Path = parsed.folder
    for name, template in (TEMPLATES | _profile_templates(folder)).items():
        target = folder / name
        if target.exists():
            print(f"kept     {target} (it was there)")
        else:
            write_text(target, _template(template))
            print(f"written  {target}")
    _add_table(folder / "pyproject.toml")
    print("before a release: answer the questions in docs/model")
    print("next: pytest --phase=baseline")


def _profile_templates(folder: Path) -> dict[str, str]:
    """What the profile asks for that a configuration chooses which is there already."""
    from pytest_mltrainer.core.config import load_config

    try:
        profile = load_config(folder / "training_config.yaml").documents.profile
    except UserError:  # none yet, or one with mistakes, which the first run names
        return {}
    return {f"docs/model/{topic}.md": f"{topic}.md" for topic in PROFILE_TOPICS[profile]}


def checklist(parsed: argparse.Namespace) -> None:
    """Print every required check of the gates with what it promises."""
    for phase in [parsed.phase] if parsed.phase else STEPS:
        checks = catalogue(phase)
        print(f"{phase}: {len(checks)} checks\n")
        for check in checks:
            indented = check.docstring.replace("\n", "\n    ")
            print(f"  {check.id}\n    {indented}\n")


def explain(parsed: argparse.Namespace) -> int:
    """Show the guidance of a diagnostic, rendered in a terminal, as plain Markdown in a pipe."""
    from rich.console import Console
    from rich.markdown import Markdown

    from pytest_mltrainer.diagnostics import guidance

    try:
        page = guidance(parsed.diagnostic)
    except UserError as error:
        print(f"pytest-mltrainer: {error}", file=sys.stderr)
        return USAGE_ERROR
    console = Console()
    if console.is_terminal:
        console.print(Markdown(page))
    else:
        print(page, end="")
    return 0


def schema(parsed: argparse.Namespace) -> None:
    """Print the JSON schema of `training_config.yaml`, for editors."""
    import json

    from pytest_mltrainer.core.config import json_schema

    print(json.dumps(json_schema(), indent=1))


def diff(parsed: argparse.Namespace) -> int:
    """Compare two runs: environment, then the first step and the module that differ. 1: they do."""
    import json

    from pytest_mltrainer.reporting.difference import difference_lines
    from pytest_mltrainer.training.repetition.run_difference import RecordedRun, compare_runs

    paths: tuple[Path, Path] = (parsed.run_a, parsed.run_b)
    try:
        one, other = (RecordedRun.open(path, parsed.phase) for path in paths)
        difference = compare_runs(one, other)
    except UserError as error:
        print(f"pytest-mltrainer: {error}", file=sys.stderr)
        return USAGE_ERROR
    if parsed.json:
        print(json.dumps(difference.to_json(), indent=1))
    else:
        print("\n".join(difference_lines(difference, (str(paths[0]), str(paths[1])))))
    return 0 if difference.is_equal else 1


def join(parsed: argparse.Namespace) -> None:
    """Be a further node of a training on several: run it on each but the first."""
    import signal
    import threading

    from pytest_mltrainer.core.project import Project
    from pytest_mltrainer.launchers.joining import join as serve

    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    project = Project.load(parsed.folder)
    serve(project, told=told, wait_s=parsed.wait, say=lambda line: print(line, flush=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pytest-mltrainer",
        description="Training gates for PyTorch. The gates themselves run by pytest --phase=NAME.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: Callable[[argparse.Namespace], int | None]
    ) -> argparse.ArgumentParser:
        summary = (command.__doc__ or "").partition("\n")[0]
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(command=command)
        return added

    add("init", init).add_argument("folder", nargs="?", type=Path, default=Path())
    add("checklist", checklist).add_argument("phase", nargs="?", choices=list(STEPS))
    add("explain", explain).add_argument("diagnostic", help="for example nan_loss")
    add("schema", schema)
    joined = add("join", join)
    joined.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project's folder")
    joined.add_argument(
        "--wait", type=float, default=600.0, metavar="SECONDS", help="for the first node to begin"
    )
    compared = add("diff", diff)
    for name in ("run_a", "run_b"):
        compared.add_argument(name, type=Path, help="a project's folder, or its run folder")
    trained = [phase for phase in STEPS if phase != "planning"]
    compared.add_argument("--phase", choices=trained, default="baseline")
    compared.add_argument("--json", action="store_true", help="for programs")
    add_commands(add)
    add_release_commands(add)
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
