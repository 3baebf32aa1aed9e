"""The commands of a release: approve, waive, verify, pack, unpack."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from pytest_mltrainer.release.statement import ROLES, WAIVER, Role

Command = Callable[[argparse.Namespace], int | None]
Add = Callable[[str, Command], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Register the commands; `add` takes a name and a function and returns its parser."""
    approving = add("approve", approve)
    approving.add_argument("--role", required=True, choices=ROLES)
    approving.add_argument("--reject", action="store_true", help="sign that you do not approve")
    waiving = add("waive", waive)
    waiving.add_argument(
        "--check", required=True, metavar="ID", help="for example finalization/inference_tested"
    )
    for parser in (approving, waiving):
        parser.add_argument(
            "--key", required=True, type=Path, help="an SSH key; .pub: by the agent"
        )
        parser.add_argument("--reason", default="", help="why, for everybody who reads it later")
        parser.add_argument("--days", type=int, help="how long it holds")
        parser.add_argument("--yes", action="store_true", help="sign without asking")
        parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project")
    verifying = add("verify", verify)
    verifying.add_argument(
        "run", nargs="?", type=Path, default=Path(), help="project or run folder"
    )
    verifying.add_argument("--json", action="store_true", help="for programs")
    packing = add("pack", pack)
    packing.add_argument("archive", type=Path, help="the .tar to write")
    packing.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project")
    unpacking = add("unpack", unpack)
    unpacking.add_argument("archive", type=Path, help="what pack wrote")
    unpacking.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project")


def approve(parsed: argparse.Namespace) -> int:
    """Show what a role would approve, and sign it with an SSH key."""
    return _sign(parsed, parsed.role, is_rejected=parsed.reject)


def waive(parsed: argparse.Namespace) -> int:
    """Sign that the failure of one check is accepted for a while."""
    from pytest_mltrainer.release.waivers import check_waivable

    check_waivable(parsed.check, parsed.reason)
    return _sign(parsed, WAIVER, check=parsed.check)


def verify(parsed: argparse.Namespace) -> int:
    """Say from bytes whether a run is production-ready: 0 when it is, 1 when it is not."""
    from pytest_mltrainer.release.verify import find_run, lines_of, verify_run

    found = verify_run(*find_run(parsed.run))
    if parsed.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        print("\n".join(lines_of(found)))
    return 0 if found.is_ready else 1


def pack(parsed: argparse.Namespace) -> None:
    """Write the evidence of a run, without the data, into one archive."""
    from pytest_mltrainer.release.pack import pack_run
    from pytest_mltrainer.release.verify import find_run

    run, _ = find_run(parsed.folder)
    count = pack_run(run, parsed.archive)
    print(f"packed {count} files of {run.path} into {parsed.archive}")


def unpack(parsed: argparse.Namespace) -> None:
    """Put the evidence of an archive in the place of the project's run folder."""
    from pytest_mltrainer.core.project import Project
    from pytest_mltrainer.release.pack import unpack_run

    project = Project.load(parsed.folder)
    count = unpack_run(parsed.archive, project.run_folder)
    print(f"unpacked {count} files into {project.run_folder}")
    print("next: pytest --phase=finalization --mltrainer-frozen")


def _sign(
    parsed: argparse.Namespace, role: Role, *, is_rejected: bool = False, check: str = ""
) -> int:
    from pytest_mltrainer.release.approve import Wish, draft, sign_and_store
    from pytest_mltrainer.release.verify import find_run

    run, root = find_run(parsed.folder)
    key = parsed.key.expanduser()
    wish = Wish(
        role=role,
        key=key,
        answer="reject" if is_rejected else "approve",
        reason=parsed.reason,
        days=parsed.days or _days(root),
        check=check,
    )
    drafted = draft(run, root, wish)
    print("\n".join(drafted.shown))
    if not parsed.yes and not _is_confirmed():
        print("not signed")
        return 1
    path = sign_and_store(drafted, key)
    print(f"signed: {path}")
    print("next: pytest --phase=finalization --mltrainer-frozen, when all have signed")
    return 0


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        print("nobody is there to confirm: add --yes to sign all the same")
        return False
    return input("Sign this? [y/N] ").strip().lower() in ("y", "yes")


def _days(root: Path | None) -> int:
    """How long a signature holds by the project's configuration; 30 without one."""
    from pytest_mltrainer.core.config import Approval, load_config
    from pytest_mltrainer.core.project import Project

    if root is None:
        return Approval().days_valid
    return load_config(Project.load(root).config_path).approval.days_valid
