"""SSH signatures: whatever ssh-keygen signs is verified without it, and nothing else is."""

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signers import make_key

from pytest_mltrainer.release.signing import (
    NAMESPACE,
    CannotSign,
    SignatureRefused,
    fingerprint,
    public_key,
    sign,
    verify,
)

MESSAGE = b'{"role":"technical"}'
KINDS = [
    ("ed25519",),
    ("ecdsa", "-b", "256"),
    ("ecdsa", "-b", "384"),
    ("ecdsa", "-b", "521"),
    ("rsa", "-b", "2048"),
]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ed25519 key."""
    return make_key(tmp_path_factory.mktemp("keys") / "id")


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_what_ssh_keygen_signs_is_verified(kind: tuple[str, ...], tmp_path: Path) -> None:
    key = make_key(tmp_path / "id", *kind)
    signature = sign(MESSAGE, key)
    assert verify(MESSAGE, signature) == public_key(key)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True
    )
    assert fingerprint(public_key(key)) in shown.stdout
    with pytest.raises(SignatureRefused, match="edited after it was signed"):
        verify(MESSAGE + b" ", signature)


def test_ssh_keygen_accepts_it_too(key: Path, tmp_path: Path) -> None:
    (tmp_path / "signature").write_text(sign(MESSAGE, key))
    kind, blob, *_ = key.with_suffix(".pub").read_text().split()
    (tmp_path / "allowed").write_text(f"tom {kind} {blob}\n")
    options = ["-f", "allowed", "-I", "tom", "-n", NAMESPACE, "-s", "signature"]
    subprocess.run(
        ["ssh-keygen", "-Y", "verify", *options], cwd=tmp_path, input=MESSAGE, check=True
    )


def test_a_signature_for_another_purpose_is_refused(key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(MESSAGE)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "git", "text"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with pytest.raises(SignatureRefused, match="namespace 'git', wanted 'pytest-mltrainer@v1'"):
        verify(MESSAGE, (tmp_path / "text.sig").read_text())


@given(data=st.data())
def test_no_byte_of_a_signature_can_change(key: Path, data: st.DataObject) -> None:
    armoured = _signature(key)
    lines = armoured.strip().splitlines()
    blob = bytearray(base64.b64decode("".join(lines[1:-1])))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    spoiled = "\n".join([lines[0], base64.b64encode(blob).decode(), lines[-1]])
    with pytest.raises(SignatureRefused):
        verify(MESSAGE, spoiled)


@given(text=st.text(max_size=300))
def test_no_text_is_a_signature(text: str) -> None:
    wrapped = f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----"
    for candidate in (text, wrapped):
        with pytest.raises(SignatureRefused):
            verify(MESSAGE, candidate)


def test_a_key_with_a_passphrase_asks_for_the_agent(tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase="secret")
    with pytest.raises(CannotSign, match=r"has a passphrase.* run ssh-add .*locked first"):
        sign(MESSAGE, locked)


def test_a_key_that_the_agent_does_not_hold(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    lonely = tmp_path / "id.pub"
    lonely.write_text(key.with_suffix(".pub").read_text())
    with pytest.raises(CannotSign, match="agent"):
        sign(MESSAGE, lonely)


def test_without_ssh_it_is_said_and_verifying_goes_on(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = sign(MESSAGE, key)
    monkeypatch.setenv("PATH", str(key.parent))
    with pytest.raises(CannotSign, match="ssh-keygen is not installed"):
        sign(MESSAGE, key)
    assert verify(MESSAGE, signature) == public_key(key)


def test_without_a_key_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CannotSign, match="ssh-keygen -t ed25519"):
        sign(MESSAGE, tmp_path / "none")


_SIGNATURES: dict[Path, str] = {}


def _signature(key: Path) -> str:
    if key not in _SIGNATURES:
        _SIGNATURES[key] = sign(MESSAGE, key)
    return _SIGNATURES[key]
