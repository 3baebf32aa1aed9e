"""What export_parity costs beside the inference of both sides alone, and its memory by samples.

python benchmarks/parity.py                 the ratio of both, in one run, for each format
python benchmarks/parity.py memory FORMAT N the most memory of a parity over N samples
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.core.errors import did_you_mean
from pytest_mltrainer.export.format import exporters, load_export, precision_of, with_samples
from pytest_mltrainer.export.generated import smallest_failing
from pytest_mltrainer.export.parity import Predict, compare, total
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import ONLY, OUTPUTS, Metadata, as_array, specs
from pytest_mltrainer.training.task import Task

SAMPLES, BATCH, WIDTH, ROUNDS = 10_000, 256, 640, 5
SIZES = (10_000, 80_000)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory"]:
        memory(sys.argv[2], int(sys.argv[3]))
        return
    model = make_model()
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{count / 1e6:.2f} M parameters, {SAMPLES:,} samples, batches of {BATCH}")
    for name in exporters({}):
        eager, exported = both_sides(model, name)
        precision = precision_of(exporters({})[name])
        ratios = sorted(ratio(eager, exported, precision) for _ in range(ROUNDS))
        print(f"{name}: {ratios[len(ratios) // 2]:.2f} x pure inference (wanted at most 2)")
    for name in exporters({}):
        for samples in SIZES:
            subprocess.run([sys.executable, __file__, "memory", name, str(samples)], check=True)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    wide = (nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 256), nn.ReLU())
    return nn.Sequential(*layers, *wide, nn.Linear(256, 10)).eval()


def both_sides(model: nn.Module, name: str) -> tuple[Predict, Predict]:
    """The model, and the file of a format that it was exported to."""
    found = exporters({}).get(name)
    if found is None:
        sys.exit(f"no format '{name}'.{did_you_mean(name, exporters({}))}")
    samples = [(row, 0) for row in torch.randn(BATCH, 64)]
    exporter = with_samples(found, Task(), samples)

    def eager(inputs: Any) -> Any:
        with torch.no_grad():
            return as_array(model(inputs))

    inputs = torch.randn(2, 64)
    metadata = Metadata(
        kind="classification",
        inputs=specs(inputs, ONLY),
        outputs=specs(eager(inputs), OUTPUTS),
        checkpoint="",
        weights="",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / exporter.file_name
        exporter.export(Task(), model, inputs, path, metadata)
        return eager, load_export(exporter, path)


def batches(samples: int) -> Iterator[torch.Tensor]:
    """Samples that are made as they are asked for, so that no data set is in memory."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, samples, BATCH):
        yield torch.randn(min(BATCH, samples - start), 64, generator=generator)


def ratio(eager: Predict, exported: Predict, precision: Precision | None) -> float:
    """Parity with its generated inputs, over calling both sides, right after each other."""
    rows = list(batches(SAMPLES))
    start = time.perf_counter()
    for inputs in rows:
        eager(inputs)
        exported(inputs)
    pure = time.perf_counter() - start
    start = time.perf_counter()
    parity = total(
        compare(eager(inputs), exported(inputs), decides="class", precision=precision)
        for inputs in rows
    )
    failing = smallest_failing(eager, exported, rows[0], precision=precision)
    seconds = time.perf_counter() - start
    assert parity.n == SAMPLES
    assert not parity.differs
    assert failing is None
    return seconds / pure


def memory(name: str, samples: int) -> None:
    """The most resident memory while `samples` samples are compared, above that before them."""
    eager, exported = both_sides(make_model(), name)
    total(compare(eager(inputs), exported(inputs)) for inputs in batches(BATCH * 4))
    before, most = resident_bytes(), 0
    for inputs in batches(samples):
        compare(eager(inputs), exported(inputs), decides="class")
        most = max(most, resident_bytes())
    print(f"{name}, {samples:,} samples: {(most - before) / 2**20:.1f} MiB more")


def resident_bytes() -> int:
    """The memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
