"""Who may sign what: the approval policy, from a place that the one who trains cannot write.

```toml
allowed_signers = "allowed_signers"   # OpenSSH's format, beside this file
revoked_keys = "revoked_keys"         # optional: public keys, one a line
authors = ["ada@example.org"]         # never approve; git names the others
required = ["technical"]              # optional: never "not applicable"
max_days = 30
[roles]
technical = ["tom@example.org"]
```
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import did_you_mean
from pytest_mltrainer.release.signers import PolicyError, Signer, read_keys, read_signers
from pytest_mltrainer.release.signing import NAMESPACE, fingerprint
from pytest_mltrainer.release.statement import ROLES, WAIVER

VARIABLE = "MLTRAINER_POLICY"
LIMIT_BYTES = 1_000_000
DEFAULT_DAYS = 30
_KEYS = {
    "allowed_signers": str,
    "revoked_keys": str,
    "authors": list,
    "required": list,
    "max_days": int,
    "roles": dict,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Roles, signers and revoked keys."""

    path: Path
    roles: Mapping[str, tuple[str, ...]]
    signers: tuple[Signer, ...]
    revoked: frozenset[bytes] = frozenset()
    authors: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    max_days: int = DEFAULT_DAYS

    def people_of(self, key: bytes) -> tuple[str, ...]:
        """Whose key it is; empty for an unknown one."""
        return tuple(
            person for signer in self.signers if signer.key == key for person in signer.people
        )

    def why_not_key(self, key: bytes, person: str, at: tuple[datetime, ...]) -> str:
        """Why the key does not speak for the person at these times; empty when it does."""
        name = fingerprint(key)
        if key in self.revoked:
            return f"the key {name} is revoked"
        lines = [signer for signer in self.signers if signer.key == key]
        if not lines:
            return f"the key {name} is unknown: it is not in allowed_signers"
        mine = [signer for signer in lines if person in signer.people]
        if not mine:
            owners = ", ".join(self.people_of(key))
            return f"the key {name} belongs to {owners}, not to {person}"
        if not any(not signer.namespaces or NAMESPACE in signer.namespaces for signer in mine):
            return f"the key {name} is not allowed for namespace {NAMESPACE}"
        if not any(all(signer.is_valid(when) for when in at) for signer in mine):
            return f"the key {name} is expired or not valid yet"
        return ""

    def why_not_role(self, person: str, role: str) -> str:
        """Why the person may not sign in the role; empty when they may."""
        if person in self.roles.get(role, ()):
            return ""
        granted = ", ".join(self.roles.get(role, ())) or "nobody"
        return f"{person} is not granted the role {role} (granted: {granted})"


def find_policy(root: Path | None, run_folder: Path) -> Path | None:
    """Where the policy is: $MLTRAINER_POLICY, else `policy` of the project; None when unset.

    Raises PolicyError for a place that whoever trains can write.
    """
    named = os.environ.get(VARIABLE) or _of_the_project(root)
    if not named:
        return None
    path = Path(named).expanduser()
    path = (path if path.is_absolute() or root is None else root / path).resolve()
    if path.is_relative_to(run_folder.resolve()):
        raise PolicyError(
            f"{path}: the policy lies inside the run folder, where the training writes: move it "
            "to a protected place"
        )
    return path


def load_policy(path: Path) -> Policy:
    """Read the policy and the files that it names. Raises PolicyError with its first problem."""
    try:
        values = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: not readable as TOML ({error})") from error
    _check_keys(path, values)
    signers = path.parent / values["allowed_signers"]
    revoked = values.get("revoked_keys")
    return Policy(
        path=path,
        roles={role: tuple(people) for role, people in values["roles"].items()},
        signers=tuple(read_signers(signers, _read(signers))),
        revoked=_revoked(path.parent / revoked) if revoked else frozenset(),
        authors=tuple(values["authors"]) if "authors" in values else None,
        required=tuple(values.get("required", ())),
        max_days=values.get("max_days", DEFAULT_DAYS),
    )


def _of_the_project(root: Path | None) -> str:
    from pytest_mltrainer.core.project import Project

    return Project.load(root).policy if root and (root / "pyproject.toml").exists() else ""


def _read(path: Path) -> str:
    """The text of a protected file: nobody but its owner and group may write it or its folder."""
    try:
        path = path.resolve(strict=True)
        for place in (path, path.parent):
            mode = place.stat().st_mode
            if mode & stat.S_IWOTH and not (place.is_dir() and mode & stat.S_ISVTX):
                raise PolicyError(
                    f"{place}: everybody may write it, so it proves nothing: chmod o-w {place}"
                )
        if path.stat().st_size > LIMIT_BYTES:
            raise PolicyError(f"{path}: larger than {LIMIT_BYTES:,} bytes, wanted a policy")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PolicyError(
            f"{path}: the policy is missing; write one, or mend ${VARIABLE}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: not readable ({error})") from error


def _check_keys(path: Path, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key not in _KEYS:
            raise PolicyError(f"{path} {key}: no such key.{did_you_mean(key, _KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise PolicyError(f"{path} {key}: found {value!r}, wanted {_KEYS[key].__name__}")
    for key in ("allowed_signers", "roles"):
        if key not in values:
            raise PolicyError(f"{path} {key}: it is missing; nobody could sign")
    lists = {**values["roles"], **{key: values.get(key, []) for key in ("authors", "required")}}
    for key, people in lists.items():
        if not isinstance(people, list) or not all(isinstance(person, str) for person in people):
            raise PolicyError(f"{path} {key}: found {people!r}, wanted a list of names")
    for role in (*values["roles"], *values.get("required", ())):
        if role not in (*ROLES, WAIVER):
            known = (*ROLES, WAIVER)
            raise PolicyError(f"{path}: there is no role {role!r}.{did_you_mean(role, known)}")
    if values.get("max_days", 1) < 1:
        raise PolicyError(f"{path} max_days: found {values['max_days']}, wanted 1 or more")


def _revoked(path: Path) -> frozenset[bytes]:
    return read_keys(path, _read(path))
