"""From a judged model to a release, with throw-away keys: sign, verify, and see a byte change.

Run it here after `pytest --phase=finalization`, which ends AWAITING SIGNATURE. In your own project
people sign with their own keys, and the policy lies where the one who trains cannot write.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PEOPLE = {
    "review": "rita@example.org",
    "technical": "tom@example.org",
    "product": "pia@example.org",
    "compliance": "carl@example.org",
}
MODEL = Path(".mltrainer/finalization/final_model/model.onnx")


def main() -> int:
    """0 when all could sign, the gate and `verify` passed, and `verify` found the changed byte."""
    with tempfile.TemporaryDirectory(prefix="throw-away-keys-") as folder:
        policy = write_policy(Path(folder))
        os.environ["MLTRAINER_POLICY"] = str(policy)
        for role in PEOPLE:
            key = str(policy.with_name(role))
            if mltrainer("approve", "--role", role, "--key", key, "--yes"):
                return 1
        if run(sys.executable, "-m", "pytest", "--phase=finalization", "--mltrainer-frozen", "-q"):
            return 1
        if mltrainer("verify"):
            return 1
        return 0 if verify_refuses_another_byte() else 1


def write_policy(folder: Path) -> Path:
    """Keys without passphrases, who owns them, and who may sign as what."""
    signers = []
    for role, person in PEOPLE.items():
        key = folder / role
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        kind, blob, *_ = key.with_suffix(".pub").read_text().split()
        signers.append(f"{person} {kind} {blob}\n")
    (folder / "allowed_signers").write_text("".join(signers))
    roles = "".join(f'{role} = ["{person}"]\n' for role, person in PEOPLE.items())
    policy = folder / "policy.toml"
    policy.write_text(f'allowed_signers = "allowed_signers"\nauthors = []\n[roles]\n{roles}')
    return policy


def verify_refuses_another_byte() -> bool:
    """Change one byte of the model, ask again, and put the byte back."""
    data = MODEL.read_bytes()
    MODEL.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    try:
        print("one byte of the model is changed:")
        return mltrainer("verify") == 1
    finally:
        MODEL.write_bytes(data)


def mltrainer(*arguments: str) -> int:
    """The status of `pytest-mltrainer ARGUMENTS`."""
    return run(sys.executable, "-m", "pytest_mltrainer.cli", *arguments)


def run(*command: str) -> int:
    """The status of a command, shown with its output."""
    print("$", *command, flush=True)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
