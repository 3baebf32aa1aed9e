"""What a signature is worth: each way to cheat is refused, for its own reason."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signers import PEOPLE, Office, judge_signatures, make_key
from support import judge_check, plant

from pytest_mltrainer.cli import main
from pytest_mltrainer.release.policy import VARIABLE
from pytest_mltrainer.release.statement import (
    ROLES,
    Statement,
    StatementError,
    make_statement,
    parse_statement,
)

CHECK = "finalization/technical_approval"
Cheat = Callable[[Office, Path], object]

texts = st.text(max_size=40)
statements = st.builds(
    make_statement,
    role=st.sampled_from(ROLES),
    person=st.from_regex(r"[!-~]{1,30}", fullmatch=True),
    answer=st.sampled_from(["approve", "reject"]),
    reason=texts,
    subject=st.dictionaries(texts, st.dictionaries(texts, texts, max_size=3), max_size=3),
    days=st.integers(1, 60),
    now=st.datetimes(
        min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
    ),
    earlier=st.lists(texts, max_size=3).map(tuple),
)


@given(statement=statements)
def test_a_statement_is_read_as_it_was_written(statement: Statement) -> None:
    assert parse_statement(statement.canonical()) == statement


@given(statement=statements, data=st.data())
def test_a_statement_has_one_spelling(statement: Statement, data: st.DataObject) -> None:
    written = statement.canonical()
    place = data.draw(st.integers(0, len(written)))
    spaced = written[:place] + b" " + written[place:]
    try:
        other = parse_statement(spaced)
    except StatementError:
        return
    assert other.canonical() == spaced  # the space fell into a text, which is another statement


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"schema":1,"schema":1}', "a key stands twice"),
        (b" " * 1_000_001, "larger than"),
        (b"[1]", "not of schema 1"),
        (b'{"schema":2}', "upgrade"),
        (b'{"schema":1}', "other keys"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_statement(data: bytes, says: str) -> None:
    with pytest.raises(StatementError, match=says):
        parse_statement(data)


def test_all_have_signed(waiting: Path, office: Office) -> None:
    office.sign_all(waiting)
    for role in PEOPLE:
        name = "code_reviewed" if role == "review" else f"{role}_approval"
        result = judge_check(f"finalization/{name}", waiting)
        assert (result.outcome, result.reason) == ("pass", "")
    assert judge_signatures(waiting).outcome == "PASS"


def test_a_gate_without_signatures_waits(waiting: Path, office: Office) -> None:
    office.sign(waiting, "product")
    verdict = judge_signatures(waiting)
    assert verdict.outcome == "AWAITING SIGNATURE"
    assert verdict.checks["finalization/product_approval"] == "pass"
    assert verdict.checks[CHECK] == "awaiting signature"


def test_signing_leaves_the_identity_alone(waiting: Path, office: Office) -> None:
    before = judge_signatures(waiting)
    office.sign_all(waiting)
    after = judge_signatures(waiting)
    assert (before.identity, before.outcome) == (after.identity, "AWAITING SIGNATURE")
    assert after.outcome == "PASS"


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def edited(office: Office, project: Path) -> None:
    _edit(office.sign(project, "technical"), "good", "best")


def unknown_key(office: Office, project: Path) -> None:
    stranger = make_key(project / "keys" / "stranger")
    office.sign(project, "technical", key=stranger)


def revoked(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    public = office.key(PEOPLE["technical"]).with_suffix(".pub").read_text()
    (office.folder / "revoked").write_text(f"# lost\n{public}")
    office.extra += 'revoked_keys = "revoked"\n'
    office.write()


def key_expired(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    office.options[PEOPLE["technical"]] = 'valid-before="20200101"'
    office.write()


def key_not_for_us(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    office.options[PEOPLE["technical"]] = 'namespaces="git,file"'
    office.write()


def role_taken_away(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    office.roles["technical"] = ["somebody@example.org"]
    office.write()


def another_persons_key(office: Office, project: Path) -> None:
    office.sign(project, "technical", key=office.key(PEOPLE["product"]))


def from_the_future(office: Office, project: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    office.sign(project, "technical", signed_at=later.isoformat())


def two_roles(office: Office, project: Path) -> None:
    office.roles["product"].append(PEOPLE["technical"])
    office.write()
    office.sign(project, "technical")
    office.sign(project, "product", person=PEOPLE["technical"])


def own_work(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    office.extra = f'authors = ["{PEOPLE["technical"]}"]\n'
    office.write()


def rejected(office: Office, project: Path) -> None:
    office.sign(project, "technical", answer="reject", reason="too slow")


def approved_and_rejected(office: Office, project: Path) -> None:
    office.roles["technical"].append("uma@example.org")
    office.known.append("uma@example.org")
    office.write()
    office.sign(project, "technical", person="uma@example.org", answer="reject", reason="no")
    office.sign(project, "technical")


def duplicate_key(office: Office, project: Path) -> None:
    _edit(office.sign(project, "technical"), "{", '{"schema": 1, ')


def statement_of_ten_megabytes(office: Office, project: Path) -> None:
    path = office.sign(project, "technical")
    stored = json.loads(path.read_text())
    stored["statement"] += " " * 10_000_000
    path.write_text(json.dumps(stored))


def rejection_removed(office: Office, project: Path) -> None:
    rejection = office.sign(project, "technical", answer="reject")
    office.sign(project, "technical")
    rejection.unlink()


def signature_removed(office: Office, project: Path) -> None:
    path = office.sign(project, "technical")
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"signature": ""}))


def signed_for_another_purpose(office: Office, project: Path) -> None:
    path = office.sign(project, "technical")
    stored = json.loads(path.read_text())
    text = office.folder / "text"
    text.write_text(stored["statement"])
    key = str(office.key(PEOPLE["technical"]))
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "git", text], check=True)
    signature = text.with_name("text.sig").read_text()
    path.write_text(json.dumps(stored | {"signature": signature}))


def approves_what_failed(office: Office, project: Path) -> None:
    statement = office.statement(project, "technical")
    checks = {**statement.subject["checks"], "finalization/target_met": "fail"}
    office.store(
        project,
        replace(statement, subject={**statement.subject, "checks": checks}),
        office.key(statement.person),
    )


def required_role_not_applicable(office: Office, project: Path) -> None:
    office.extra += 'required = ["technical"]\n'
    office.write()
    config = project / "training_config.yaml"
    config.write_text(f"{config.read_text()}\napproval: {{not_applicable: {{technical: why}}}}\n")


@pytest.mark.parametrize(
    ("cheat", "says"),
    [
        (edited, r"edited after it was signed"),
        (unknown_key, r"the key SHA256:\S+ is unknown"),
        (revoked, r"the key SHA256:\S+ is revoked"),
        (key_expired, r"the key SHA256:\S+ is expired or not valid yet"),
        (key_not_for_us, r"not allowed for namespace pytest-mltrainer@v1"),
        (role_taken_away, r"tom@\S+ is not granted the role technical \(granted: somebody"),
        (another_persons_key, r"belongs to pia@example.org, not to tom@example.org"),
        (from_the_future, r"dated in the future"),
        (two_roles, r"tom@example.org signed as product too: one person may sign one role"),
        (own_work, r"tom@example.org wrote the code that trained"),
        (rejected, r"tom@example.org rejected it: too slow"),
        (approved_and_rejected, r"uma@\S+ rejected it: no \(tom@\S+ approved it"),
        (duplicate_key, r"a key stands twice"),
        (statement_of_ten_megabytes, r"larger than"),
        (rejection_removed, r"a statement that was stored before it .* was removed or edited"),
        (signed_for_another_purpose, r"signed for namespace 'git', wanted 'pytest-mltrainer@v1'"),
        (signature_removed, r"there is no SSH signature beside the text"),
        (approves_what_failed, r"approves although finalization/target_met was not passed"),
        (required_role_not_applicable, r"the policy requires the role technical"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_is_refused(cheat: Cheat, says: str, waiting: Path, office: Office) -> None:
    cheat(office, waiting)
    result = judge_check(CHECK, waiting)
    assert result.outcome == "fail"
    assert re.search(says, result.reason), result.reason


def expired(office: Office, project: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    office.sign(
        project,
        "technical",
        signed_at=past.isoformat(),
        expires_at=(past + timedelta(days=1)).isoformat(),
    )


def longer_than_the_policy_allows(office: Office, project: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=40)
    office.sign(project, "technical", signed_at=past.isoformat())


def another_model(office: Office, project: Path) -> None:
    office.sign(project, "technical")

    def other(folder: Path) -> None:
        (folder / "final_model/model.onnx").write_bytes(b"another")

    plant(project, other, "finalization")


def another_objective(office: Office, project: Path) -> None:
    office.sign(project, "technical")
    _edit(project / "training_config.yaml", "target: 0.9", "target: 0.5")


def replayed(office: Office, project: Path, part: str, name: str) -> None:
    """Really signed, by the right person, for what this run is not."""
    statement = office.statement(project, "technical")
    assert name in statement.subject[part]
    other = {**statement.subject, part: {**statement.subject[part], name: "0" * 64}}
    office.store(project, replace(statement, subject=other), office.key(statement.person))


def another_run(office: Office, project: Path) -> None:
    replayed(office, project, "records", "baseline/manifest.json")


def another_verdict(office: Office, project: Path) -> None:
    replayed(office, project, "upstream", "baseline")


def nobody_signed(office: Office, project: Path) -> None:
    assert office.policy.exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (nobody_signed, r"nobody has signed yet; sign with: pytest-mltrainer approve --role tech"),
        (expired, r"what tom@example.org signed expired on \d{4}-\d\d-\d\d"),
        (longer_than_the_policy_allows, r"what tom@example.org signed expired"),
        (another_model, r"another model or run: artifact final_model/model.onnx changed"),
        (another_run, r"another model or run: file baseline/manifest.json changed"),
        (another_verdict, r"another model or run: the verdict of baseline changed"),
        (another_objective, r"another model or run: objective changed"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_waits_for_another_signature(
    change: Cheat, says: str, waiting: Path, office: Office
) -> None:
    change(office, waiting)
    result = judge_check(CHECK, waiting)
    assert result.outcome == "awaiting signature"
    assert re.search(says, result.reason), result.reason


def policy_in_the_run(office: Office, project: Path) -> Path:
    return project / ".mltrainer" / "policy.toml"


def policy_missing(office: Office, project: Path) -> Path:
    return office.folder / "nowhere.toml"


def policy_for_everybody(office: Office, project: Path) -> Path:
    office.policy.chmod(0o666)
    return office.policy


def signers_for_everybody(office: Office, project: Path) -> Path:
    (office.folder / "allowed_signers").chmod(0o666)
    return office.policy


def folder_for_everybody(office: Office, project: Path) -> Path:
    office.folder.chmod(0o777)
    return office.policy


def policy_with_a_typo(office: Office, project: Path) -> Path:
    office.policy.write_text(office.policy.read_text().replace("technical", "technicl"))
    return office.policy


def no_policy(office: Office, project: Path) -> str:
    return ""


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (policy_in_the_run, r"lies inside the run folder"),
        (policy_missing, r"nowhere.toml: the policy is missing"),
        (policy_for_everybody, r"policy.toml: everybody may write it"),
        (signers_for_everybody, r"allowed_signers: everybody may write it"),
        (folder_for_everybody, r"office: everybody may write it"),
        (policy_with_a_typo, r"there is no role 'technicl'. Did you mean 'technical'\?"),
        (no_policy, r"there is no policy that says who may sign"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_policy_that_proves_nothing(
    place: Callable[[Office, Path], Path | str],
    says: str,
    waiting: Path,
    office: Office,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    office.sign(waiting, "technical")
    monkeypatch.setenv(VARIABLE, str(place(office, waiting)))
    result = judge_check(CHECK, waiting)
    assert result.outcome == "cannot judge"
    assert re.search(says, result.reason), result.reason


def test_a_review_outlives_another_training_of_the_same_code(waiting: Path, office: Office) -> None:
    office.sign(waiting, "review")
    another_model(office, waiting)
    assert judge_check("finalization/code_reviewed", waiting).outcome == "pass"


def test_who_wrote_the_code_must_be_known(waiting: Path, office: Office) -> None:
    office.sign(waiting, "review")
    office.extra = ""
    office.write()
    result = judge_check("finalization/code_reviewed", waiting)
    assert result.outcome == "fail"
    assert "who wrote the code is not recorded, because there is no git" in result.reason


def test_a_role_that_need_not_sign_says_why(waiting: Path) -> None:
    config = waiting / "training_config.yaml"
    config.write_text(f"{config.read_text()}\napproval: {{not_applicable: {{technical: a toy}}}}\n")
    result = judge_check(CHECK, waiting)
    assert result.outcome == "not applicable"
    assert result.reason == "a toy (approval.not_applicable.technical)"


def test_the_command_shows_what_is_signed(
    waiting: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(office.key(PEOPLE["technical"]))
    command = ["approve", "--role", "technical", "--key", key, str(waiting)]
    assert main(command) == 1
    shown = capsys.readouterr().out
    for part in (
        "tom@example.org approves as technical, until ",
        "model: final_model/model.onnx sha256 ",
        "test accuracy: 0.9692 (n = 130",
        "wanted at least 0.9",
        "test set opened: 2",
        "difference to the last approved: there is none before this",
        "nobody is there to confirm: add --yes",
    ):
        assert part in shown
    assert main([*command, "--yes"]) == 0
    assert judge_check(CHECK, waiting).outcome == "pass"


@pytest.mark.parametrize(
    ("role", "person", "says"),
    [
        ("product", PEOPLE["technical"], "is not granted the role product"),
        ("technical", "stranger", "is unknown: it is not in allowed_signers"),
    ],
)
def test_the_command_refuses_what_would_not_count(
    role: str,
    person: str,
    says: str,
    waiting: Path,
    office: Office,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = str(office.key(person))
    assert main(["approve", "--role", role, "--key", key, "--yes", str(waiting)]) == 2
    assert says in capsys.readouterr().err


def test_nothing_is_signed_over_a_broken_chain(
    waiting: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    (waiting / ".mltrainer/baseline/baseline_results.md").write_text("better")
    key = str(office.key(PEOPLE["technical"]))
    assert main(["approve", "--role", "technical", "--key", key, "--yes", str(waiting)]) == 2
    assert "baseline/baseline_results.md was changed" in capsys.readouterr().err
