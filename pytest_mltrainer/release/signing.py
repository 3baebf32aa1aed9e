"""SSH signatures: made by `ssh-keygen` or an agent, verified without any program.

The format is OpenSSH's PROTOCOL.sshsig: a signature over the namespace, the name of a hash and the
hash of the message, so that a signature for one purpose cannot serve another.
"""

import base64
import binascii
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_mltrainer.core.errors import UserError

NAMESPACE = "pytest-mltrainer@v1"
LIMIT_BYTES = 20_000
TIMEOUT_S = 120.0
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LIMIT_FIELD = 16_384
_LEAST_RSA_BITS = 2048


class SignatureRefused(UserError):
    """A signature that proves nothing; the text says why."""


class CannotSign(UserError):
    """The key could not sign; the text says what to do."""


def sign(message: bytes, key: Path) -> str:
    """The armoured signature of `key` over `message`, in our namespace. Raises CannotSign.

    `key` is a private key, or a public one whose private half an agent holds. A passphrase is
    asked for in a terminal only.
    """
    if not key.is_file():
        raise CannotSign(f"{key}: there is no such key; make one with: ssh-keygen -t ed25519")
    with tempfile.TemporaryDirectory(prefix="mltrainer-sign-") as folder:
        path = Path(folder) / "statement"
        path.write_bytes(message)
        _ssh_keygen("-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(path), key=key)
        return Path(f"{path}.sig").read_text(encoding="ascii")


def public_key(key: Path) -> bytes:
    """The public half of a key file, as the bytes that SSH calls its blob. Raises CannotSign."""
    beside = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if beside.is_file():
        text = beside.read_text(encoding="utf-8", errors="replace")
    elif key.is_file():
        text = _ssh_keygen("-y", "-f", str(key), key=key)
    else:
        raise CannotSign(f"{key}: there is no such key; make one with: ssh-keygen -t ed25519")
    try:
        return base64.b64decode(text.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise CannotSign(f"{beside}: not a public key of SSH") from error


def verify(message: bytes, armoured: str) -> bytes:
    """The blob of the key that signed `message` in our namespace. Raises SignatureRefused.

    Who owns that key, and what they may sign, the policy says.
    """
    blob = _Reader(_unarmoured(armoured))
    if blob.take(len(_MAGIC)) != _MAGIC or blob.number() != 1:
        raise SignatureRefused("it is no SSH signature of version 1")
    key, namespace, reserved = blob.field(), blob.field(), blob.field()
    hash_name, signature = blob.field(), blob.field()
    blob.end()
    if namespace != NAMESPACE.encode():
        found = namespace.decode(errors="replace")[:60]
        raise SignatureRefused(f"it was signed for namespace {found!r}, wanted {NAMESPACE!r}")
    if hash_name not in (b"sha256", b"sha512"):
        raise SignatureRefused(f"it uses hash {hash_name[:20]!r}, wanted sha256 or sha512")
    digest = hashlib.new(hash_name.decode(), message).digest()
    signed = _MAGIC + b"".join(map(_packed, (namespace, reserved, hash_name, digest)))
    _verify_raw(key, signature, signed)
    return key


def fingerprint(key: bytes) -> str:
    """`SHA256:...` as ssh-keygen prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _verify_raw(key: bytes, signature: bytes, signed: bytes) -> None:
    """Check the signature by the key's own algorithm."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    reader = _Reader(signature)
    algorithm, raw = reader.field().decode(errors="replace"), reader.field()
    reader.end()
    try:
        _verifier(key, algorithm)(raw, signed)
    except InvalidSignature as error:
        raise SignatureRefused(
            "the signature does not belong to this text: it was edited after it was signed"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureRefused(f"its key or signature cannot be read ({error})") from error


def _verifier(key: bytes, algorithm: str) -> Callable[[bytes, bytes], None]:
    """What verifies `raw` over `signed` with this key and algorithm, or raises InvalidSignature."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    kind = _Reader(key).field()
    loaded = load_ssh_public_key(kind + b" " + base64.b64encode(key))
    if isinstance(loaded, ed25519.Ed25519PublicKey) and algorithm == "ssh-ed25519":
        return loaded.verify
    if isinstance(loaded, ec.EllipticCurvePublicKey) and algorithm.encode() == kind:
        bits = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
        curve_hash = ec.ECDSA(bits[loaded.curve.key_size])

        def verify_ecdsa(raw: bytes, signed: bytes) -> None:
            pair = _Reader(raw)
            r, s = (int.from_bytes(pair.field()) for _ in range(2))
            pair.end()
            loaded.verify(utils.encode_dss_signature(r, s), signed, curve_hash)

        return verify_ecdsa
    rsa_hash = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}.get(algorithm)
    if isinstance(loaded, rsa.RSAPublicKey) and rsa_hash is not None:
        if loaded.key_size < _LEAST_RSA_BITS:
            raise SignatureRefused(f"its RSA key has {loaded.key_size} bits, wanted 2048 or more")
        return lambda raw, signed: loaded.verify(raw, signed, padding.PKCS1v15(), rsa_hash)
    raise SignatureRefused(
        f"algorithm {algorithm[:40]!r} is not supported: sign with an ed25519, ecdsa or RSA key"
    )


def _unarmoured(text: str) -> bytes:
    lines = text.strip().splitlines()
    if len(text) > LIMIT_BYTES or len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise SignatureRefused("there is no SSH signature beside the text")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureRefused(f"the signature is damaged ({error})") from error


def _packed(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


class _Reader:
    """Takes length-prefixed fields from bytes. Raises SignatureRefused beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > min(len(self._data), _LIMIT_FIELD):
            raise SignatureRefused("the signature is cut off")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4))

    def field(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._data:
            raise SignatureRefused("there is something behind the signature")


def _ssh_keygen(*arguments: str, key: Path) -> str:
    """The output of ssh-keygen. It may ask for a passphrase only where somebody can answer."""
    is_attended = sys.stdin.isatty()
    quiet = {} if is_attended else {"SSH_ASKPASS_REQUIRE": "never"}
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments],
            stdin=None if is_attended else subprocess.DEVNULL,
            env={**os.environ, **quiet},
            # Without a controlling terminal it cannot wait for an answer that nobody gives.
            start_new_session=not is_attended,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise CannotSign(
            "ssh-keygen is not installed: install OpenSSH (openssh-client) where you sign; "
            "verifying needs none"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CannotSign(f"{key}: ssh-keygen gave no answer in {TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise CannotSign(_why(done.stderr, key, is_attended=is_attended))
    return done.stdout


def _why(said: str, key: Path, *, is_attended: bool) -> str:
    reason = " ".join(said.split())[-300:]
    if "passphrase" in reason and is_attended:
        return f"{key}: the passphrase was not that of the key; nothing was signed: try again"
    if "passphrase" in reason:
        return (
            f"{key}: the key has a passphrase and nobody is there to type it: "
            f"run ssh-add {key} first, or sign in a terminal"
        )
    if "agent" in reason:
        return f"{key}: the agent does not hold this key: run ssh-add, or name the private key"
    return f"{key}: ssh-keygen could not sign ({reason})"
