"""An export loaded by a process that has neither the project nor its code, as another machine."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.export.signature import as_array, named_leaves

TIMEOUT_S = 120.0

_ELSEWHERE = """
import importlib, json, resource, sys
import numpy as np
from pathlib import Path
loader, path, inputs = sys.argv[1:]
module, _, name = loader.partition(":")
model = getattr(importlib.import_module(module), name)(Path(path))
batches = {}
for key, leaf in np.load(inputs).items():
    size, _, input_name = key.partition("/")
    batches.setdefault(size, {})[input_name] = leaf
found = {}
for size, batch in batches.items():
    outputs = model(batch)
    found[size] = {"rows": len(outputs), "finite": bool(np.isfinite(outputs).all())}
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss of Linux begins with what the parent held
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    peak = int(lines["VmHWM"].split()[0]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"batches": found, "peak": peak}))
"""


class RefusedElsewhere(UserError):
    """An export could not be loaded, or not asked, where the project is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What a process elsewhere got: outputs and whether they are finite, by batch size."""

    rows: Mapping[int, int]
    finite: Mapping[int, bool]
    peak_bytes: int
    """The most memory that the process held, Python and the runtime included."""


def load_elsewhere(loader: str, path: Path, batches: Mapping[int, Any]) -> Elsewhere:
    """Load the file in a fresh process in an empty folder, and predict `batches`, by size.

    Raises RefusedElsewhere with that process's error.
    """
    arrays = {
        f"{size}/{name}": as_array(leaf)
        for size, inputs in batches.items()
        for name, leaf in named_leaves(inputs).items()
    }
    with tempfile.TemporaryDirectory(prefix="mltrainer-export-") as folder:
        given = Path(folder) / "inputs.npz"
        np.savez(given, allow_pickle=False, **arrays)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-c", _ELSEWHERE, loader, str(path), str(given)],
                cwd=folder,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RefusedElsewhere(f"{path.name}: no answer within {TIMEOUT_S:g} s") from error
    if done.returncode:
        why = _last_error(done.stderr) or f"the process ended with exit status {done.returncode}"
        raise RefusedElsewhere(f"{path.name}: {why}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Elsewhere(
        rows={int(size): batch["rows"] for size, batch in found["batches"].items()},
        finite={int(size): batch["finite"] for size, batch in found["batches"].items()},
        peak_bytes=found["peak"],
    )


def _last_error(stderr: str) -> str:
    """What stands behind the last frame of a traceback, in one line: a message may have several."""
    lines = reversed(stderr.rstrip().splitlines())
    behind = list(itertools.takewhile(lambda line: not line.startswith("  "), lines))
    return " ".join(line.strip() for line in reversed(behind))
