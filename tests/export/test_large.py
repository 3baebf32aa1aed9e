"""Weights of more than 2 GB, for real: exported, loaded back, and packed in flat memory."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.export.external_data import external_files
from pytest_mltrainer.export.format import exporters
from pytest_mltrainer.export.onnx_model import OnnxModel
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.served import WEIGHTS
from pytest_mltrainer.release.final_model import write_final_model
from pytest_mltrainer.training.task import Task

GIB = 2**30
PACK = """
import sys
from pathlib import Path
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.release.pack import pack_run, unpack_run
pack_run(RunFolder(Path(sys.argv[1])), Path(sys.argv[2]))
unpack_run(Path(sys.argv[2]), Path(sys.argv[3]))
# Not ru_maxrss: on Linux it begins with what the parent held.
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied at once: pytest would keep 15 GB of three sessions."""
    if shutil.disk_usage(tmp_path).free < 20 * GIB:
        pytest.skip("less than 20 GiB free")
    yield tmp_path
    for part in tmp_path.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read there")
def test_more_than_2_gb_of_weights(space: Path) -> None:
    """Two to three minutes, 5 GiB of memory, 14 GiB of disk."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 16_384), nn.ReLU(), nn.Linear(16_384, 34_000), nn.ReLU(), nn.Linear(34_000, 3)
    ).eval()
    inputs, folder = torch.randn(2, 16), space / "run" / "final_model"
    folder.mkdir(parents=True)
    write_final_model(
        folder,
        task=Task(),
        model=model,
        inputs=inputs,
        datasets=[],
        formats=("onnx",),
        known=exporters({}),
        metric=METRICS["accuracy"],
        checkpoint="c" * 64,
    )
    assert (folder / WEIGHTS).stat().st_size > 2 * GIB
    assert external_files(folder / "model.onnx") == ("model.onnx.data",)
    with torch.no_grad():
        wanted = model(inputs).numpy()
    del model
    found = OnnxModel(folder / "model.onnx")(inputs)
    assert np.isfinite(found).all()
    assert not compare(wanted, found).differs
    paths = map(str, (space / "run", space / "run.tar", space / "there"))
    done = subprocess.run(
        [sys.executable, "-c", PACK, *paths], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 200 * 1024, "KiB: the files are not streamed"
