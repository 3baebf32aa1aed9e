"""The secret scan finds every kind wherever it stands, and leaves ordinary code alone."""

import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.release import secret_scan
from pytest_mltrainer.release.secret_scan import (
    RULES,
    Rule,
    blind_rules,
    entropy,
    scan_project,
    scan_text,
)

ORDINARY = """
tokenizer = "bert-base-uncased-2024-version"
token_count = 12345678901234
password = os.environ["DB_PASSWORD"]
password = "correct horse battery staple"
url = "https://user:${PASSWORD}@example.org"
url = "https://docs.example.org/a:b@c"
digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
sk-learn is what scikit-learn was called once upon a time in the west
api_key = "xxxxxxxxxxxxxxxxxxxxxxx1"
"""


@given(
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 2**32),
    before=st.text("abc =,(#\n", max_size=20),
    after=st.text(" ,)\n", min_size=1, max_size=20),
)
def test_a_secret_of_every_kind_is_found(rule: Rule, seed: int, before: str, after: str) -> None:
    text = f"{before} {rule.canary(random.Random(seed))}{after}"
    found = [entry for entry, _ in scan_text("file", text)]
    assert rule.name in {entry.rule for entry in found}
    assert found[0].line == before.count("\n") + 1


def test_ordinary_code_holds_no_secret() -> None:
    assert list(scan_text("file", ORDINARY)) == []


def test_no_finding_repeats_the_secret() -> None:
    secret = RULES[1].canary(random.Random(0))
    ((found, _),) = scan_text("settings.py", f"key = {secret}")
    assert secret not in found.text()
    assert found.text() == "settings.py:1 AWS access key"


def test_a_rule_that_has_gone_blind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blind_rules() == ()
    broken = Rule("GitHub token", re.compile(r"never \b matched"), RULES[2].canary)
    monkeypatch.setattr(secret_scan, "RULES", (RULES[0], broken))
    assert blind_rules() == ("GitHub token",)


def test_a_marked_line_is_allowed_and_listed(tmp_path: Path) -> None:
    secret = RULES[3].canary(random.Random(0))
    (tmp_path / "a.py").write_text(f"a = '{secret}'  # pragma: allowlist secret\n")
    (tmp_path / "b.py").write_text(f"b = '{secret}'\n")
    (tmp_path / "fixture.txt").write_text(secret)
    scan = scan_project(tmp_path, not_secrets=["fixture*"])
    assert [entry.path for entry in scan.findings] == ["b.py"]
    assert [entry.path for entry in scan.allowed] == ["a.py", "fixture.txt"]


def test_what_git_ignores_is_no_file_of_the_project(tmp_path: Path) -> None:
    secret = RULES[4].canary(random.Random(0))
    for name in ("tracked.py", "new.py", "ignored.py"):
        (tmp_path / name).write_text(f"{secret}\n")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "tracked.py"], cwd=tmp_path, check=True)
    scan = scan_project(tmp_path)
    assert [entry.path for entry in scan.findings] == ["new.py", "tracked.py"]


def test_folders_left_out_large_and_binary_files_are_not_read(tmp_path: Path) -> None:
    secret = RULES[4].canary(random.Random(0))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.txt").write_text(secret)
    (tmp_path / "weights.bin").write_bytes(b"\0" + secret.encode())
    (tmp_path / "large.txt").write_text(secret + " " * secret_scan.LIMIT_FILE_BYTES)
    (tmp_path / "read.txt").write_text("nothing")
    scan = scan_project(tmp_path, without=[tmp_path / "run"])
    assert (scan.files, scan.findings, scan.unread) == (1, (), ("large.txt",))


@given(st.text(max_size=50))
def test_entropy_is_none_for_one_letter_and_at_most_that_of_all_different(text: str) -> None:
    found = entropy(text)
    assert 0 <= found <= max(len(text), 1).bit_length()
    assert (found == 0) == (len(set(text)) <= 1)
