"""Files of keys are read as OpenSSH reads them, or refused with their line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pytest_mltrainer.release.signers import PolicyError, read_keys, read_signers

FILE = Path("allowed_signers")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="


def test_a_line_names_people_purposes_and_times() -> None:
    options = 'namespaces="git,file",valid-after="202601021530Z",valid-before="20270101"'
    text = f"# ours\n\ntom@example.org,ann@example.org {options} {KEY} a comment\n"
    (signer,) = read_signers(FILE, text)
    assert signer.people == ("tom@example.org", "ann@example.org")
    assert signer.namespaces == ("git", "file")
    assert signer.valid_after == datetime(2026, 1, 2, 15, 30, tzinfo=UTC)
    assert signer.is_valid(datetime(2026, 6, 1, tzinfo=UTC))
    assert not signer.is_valid(datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"tom cert-authority {KEY}", "the option 'cert-authority' is not supported"),
        (f"* {KEY}", "wanted a person without wildcards"),
        (f'tom valid-after="2027" {KEY}', "found date '2027'"),
        (f'tom valid-after="20271399" {KEY}', "there is no date '20271399'"),
        ("tom ssh-ed25519", "and a public key"),
        ("tom ssh-ed25519 AAA", "the key is damaged"),
        (f'tom "open {KEY}', "an open quotation mark"),
    ],
)
def test_a_line_that_says_nothing_sure(line: str, says: str) -> None:
    with pytest.raises(PolicyError, match=f"allowed_signers:2: .*{says}"):
        list(read_signers(FILE, f"# first\n{line}\n"))


def test_revoked_keys_stand_with_or_without_a_name() -> None:
    assert len(read_keys(FILE, f"{KEY}\n# lost\ntom {KEY} old\n")) == 1
    with pytest.raises(PolicyError, match="allowed_signers:1: wanted a public key"):
        read_keys(FILE, "nothing\n")
