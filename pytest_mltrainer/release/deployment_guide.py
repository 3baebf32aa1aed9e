"""`deployment_guide.md`: the files with their digests, and commands that the gate runs."""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pytest_mltrainer.core.artifacts import file_names
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.documents.markdown import Document, code
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.export.served import FOLDER, MODEL_MANIFEST
from pytest_mltrainer.export.signature import size_text
from pytest_mltrainer.release.service import BILL, PREPROCESSING
from pytest_mltrainer.training.run import TrainingRun

SECTIONS = (
    "Model", "Files", "Install", "Bill of materials", "Serve", "Inputs", "Monitor", "Roll back",
    "Contacts",
)  # fmt: skip
MODEL_CARD = "model_card.md"
TIMEOUT_S = 120.0
INSTALL = """
python -m venv venv
venv/bin/python -m pip install --no-deps -r requirements.lock.txt
"""
SERVE = """
python serve.py --health
python serve.py --golden
python serve.py --predict example_request.json
"""
MONITOR = """
python -c "from monitor import Monitor; print(sorted(Monitor.load('.').rules))"
"""
_COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One command of the guide, and how it ended."""

    command: str
    status: int
    said: str


def deployment_guide(run: TrainingRun, words: Words) -> str:
    """The guide of a final model's folder as it is now."""
    manifest = run.json(f"{FOLDER}/{MODEL_MANIFEST}")
    document = Document("Deployment guide").section("Model")
    document.paragraph(
        f"A task of kind {manifest['kind']}, chosen by {manifest['metric']}. Checkpoint sha256 ",
        code(sha256_file(run.folder.artifact("checkpoints/best.pt"))),
        ".",
    )
    document.section("Files").paragraph(
        "Deploy the whole folder ", code(FOLDER), "; the service refuses files with other bytes."
    )
    document.table(
        ["file", "sha256"],
        [[code(name), code(digest)] for name, digest in delivered_files(run).items()],
    )
    document.section("Install").paragraph(
        "In the folder; the lock names all that serving needs. The gate installs it in an "
        "environment of its own and serves there (", code("clean_room_serve"), ").",
    )  # fmt: skip
    document.code_block(INSTALL, "console")
    _bill(document, run)
    document.section("Serve").paragraph(
        "In the folder, with the Python of that environment. Each command prints JSON and exits "
        "with 0 when all is well."
    )
    document.code_block(SERVE, "sh")
    _inputs(document, run)
    document.section("Monitor").paragraph(
        "Rules and alarms are described in ", code("monitoring_guide.md"), "."
    )
    document.code_block(MONITOR, "sh")
    document.section("Roll back").paragraph(
        "Keep the folder of the release before. To roll back, serve that folder again: it has its "
        "own weights, lock and golden requests; both commands below must exit with 0 in it."
    )
    document.code_block("python serve.py --health\npython serve.py --golden", "sh")
    document.section("Contacts").quote(words.quote("contacts"))
    return document.text()


def _bill(document: Document, run: TrainingRun) -> None:
    """What of the packages a person has to look at: those that state no licence."""
    libraries = run.json(BILL)["components"]
    document.section("Bill of materials").paragraph(
        code(BILL),
        f" names the model, its files and {len(libraries)} packages with their licences and what "
        "they require (CycloneDX 1.6).",
    )
    if silent := [library["name"] for library in libraries if "licenses" not in library]:
        document.paragraph(f"The metadata of these state no licence: {', '.join(silent)}.")


def delivered_files(run: TrainingRun) -> dict[str, str]:
    """The files of the final model's folder with their digests; the card is a document itself."""
    folder = run.folder.artifact(FOLDER)
    return {name: sha256_file(folder / name) for name in file_names(folder) if name != MODEL_CARD}


def commands_of(guide: str) -> list[str]:
    """The commands of every `sh` block."""
    blocks = (block[1] for block in _COMMANDS.finditer(guide))
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run_commands(guide: str, folder: Path) -> list[Ran]:
    """Run the guide's commands in a copy of the folder, by this Python and without a shell."""
    with tempfile.TemporaryDirectory(prefix="mltrainer-guide-") as scratch:
        copy = Path(scratch) / FOLDER
        shutil.copytree(folder, copy)
        return [_run(command, copy) for command in dict.fromkeys(commands_of(guide))]


def _run(command: str, folder: Path) -> Ran:
    program, *arguments = shlex.split(command)
    try:
        done = subprocess.run(
            [sys.executable if program == "python" else program, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Ran(command=command, status=-1, said=str(error))
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines() or [""]
    return Ran(command=command, status=done.returncode, said=lines[-1][:300])


def _inputs(document: Document, run: TrainingRun) -> None:
    contract = run.json(PREPROCESSING)
    document.section("Inputs").bullets(contract["duties"])
    limits, moments = ("minimum", "maximum"), ("mean", "standard_deviation")
    document.paragraph(f"Measured on {contract['rows']} samples of the training split:")
    document.table(
        ["input", "dtype", "shape", "least", "largest", "mean", "standard deviation"],
        [
            [
                code(part["name"]),
                part["dtype"],
                " x ".join(size_text(axis, size) for axis, size in enumerate(part["shape"])),
                *(_shown(part[name], part["dtype"]) for name in limits),
                *(_shown(part[name], "float") for name in moments),
            ]
            for part in contract["inputs"]
        ],
    )


def _shown(value: float | None, dtype: str) -> str | None:
    """Whole numbers and masks without decimals."""
    if value is None:
        return None
    return number(float(value)) if dtype.startswith(("float", "bfloat")) else f"{value:.0f}"
