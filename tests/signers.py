"""People with throw-away keys, the policy that lets them sign, and a gate that waits for them."""

import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support import judge_check

from pytest_mltrainer.core.artifacts import JUDGEMENTS
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.files import read_ledger
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import (
    SIGNED_CHECKS,
    CheckOutcome,
    CheckResult,
    Verdict,
    load_verdict,
)
from pytest_mltrainer.pipeline_run import PipelineRun
from pytest_mltrainer.release import signing
from pytest_mltrainer.release.approvals import store_statement
from pytest_mltrainer.release.approve import Wish, draft
from pytest_mltrainer.release.policy import VARIABLE
from pytest_mltrainer.release.statement import Role, Statement
from pytest_mltrainer.release.verify import find_run

PEOPLE: dict[Role, str] = {
    "review": "rita@example.org",
    "technical": "tom@example.org",
    "product": "pia@example.org",
    "compliance": "carl@example.org",
}


def make_key(path: Path, kind: str = "ed25519", *options: str, passphrase: str = "") -> Path:
    """A new key of ssh-keygen's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, *options, "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass(slots=True)
class Office:
    """A folder with a policy, allowed signers, and the keys of the people."""

    folder: Path
    roles: dict[str, list[str]] = field(
        default_factory=lambda: {role: [person] for role, person in PEOPLE.items()}
    )
    extra: str = 'authors = ["ada@example.org"]\n'
    options: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=lambda: list(PEOPLE.values()))

    @property
    def policy(self) -> Path:
        """The policy file."""
        return self.folder / "policy.toml"

    def key(self, person: str) -> Path:
        """The person's private key, made when first asked for."""
        path = self.folder / "keys" / person.partition("@")[0]
        return path if path.exists() else make_key(path)

    def write(self) -> "Office":
        """Write the policy and the allowed signers as they are set now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        lines = []
        for person in self.known:
            kind, blob, *_ = self.key(person).with_suffix(".pub").read_text().split()
            lines.append(f"{person} {self.options.get(person, '')} {kind} {blob}\n")
        (self.folder / "allowed_signers").write_text("".join(lines))
        roles = "".join(f"{role} = {people}\n" for role, people in self.roles.items())
        text = f'allowed_signers = "allowed_signers"\n{self.extra}[roles]\n{roles}'
        self.policy.write_text(text)
        os.environ[VARIABLE] = str(self.policy)
        return self

    def statement(self, project: Path, role: Role, **other: Any) -> Statement:
        """What the person of a role would sign now, with parts of it replaced by `other`."""
        person = other.get("person", self.roles[role][0])
        wish = Wish(role=role, key=self.key(person), reason="good", check=other.pop("check", ""))
        drafted = draft(*find_run(project), wish)
        return replace(drafted.statement, **other)

    def sign(self, project: Path, role: Role, **other: Any) -> Path:
        """Sign and store, without asking whether it will count."""
        key = other.pop("key", None)
        statement = self.statement(project, role, **other)
        return self.store(project, statement, key or self.key(statement.person))

    def store(self, project: Path, statement: Statement, key: Path) -> Path:
        """Sign a statement with any key and store it."""
        signature = signing.sign(statement.canonical(), key)
        return store_statement(find_run(project)[0], statement, signature)

    def sign_all(self, project: Path) -> None:
        """Every role signs."""
        for role in PEOPLE:
            self.sign(project, role)


def ask_for_signatures(project: Path) -> None:
    """Take back that no role need sign, and judge: the gate now waits for four signatures."""
    path = project / "training_config.yaml"
    before, _, _ = path.read_text().partition("approval:\n")
    path.write_text(before)
    judge_signatures(project)


def judge_signatures(project: Path, **outcomes: CheckOutcome) -> Verdict:
    """Judge the checks that people sign and conclude the gate.

    The others end as they did the last time, or as `outcomes` says by name of the check.
    """
    outcomes = {f"finalization/{name}": outcome for name, outcome in outcomes.items()}
    loaded = Project.load(project)
    pipeline = PipelineRun(
        project=loaded, config=load_config(loaded.config_path), target="finalization"
    )
    pipeline.make_plan()
    folder = find_run(project)[0].phase("finalization")
    ended: dict[str, Any] = {}
    for judgement in read_ledger(folder.path / JUDGEMENTS):
        ended |= judgement["checks"]
    for name, kept in ended.items():
        result = CheckResult(
            id=name,
            outcome=outcomes.get(name, kept["outcome"]),
            reason=kept["reason"],
            judgements=kept["judgements"],
        )
        is_signed = name in SIGNED_CHECKS
        pipeline.record("finalization", judge_check(name, project) if is_signed else result)
    pipeline.conclude("finalization")
    verdict = load_verdict(folder)
    assert verdict is not None
    return verdict
