"""Checkpoints: which are written, and that loading one never runs code nor fills the memory."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_trainings import Blobs, rehearse, small_config, whole_state

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.training.checkpoints import Checkpoint, load_safely
from pytest_mltrainer.training.reproducibility import digest_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoints of five epochs, the second of them the best."""

    class Scripted(Blobs):
        script = iter([0.5, 0.9, 0.8, 0.9, 0.7])

        def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
            return {"accuracy": next(self.script) if len(targets) == 30 else 0.0}

    rehearse(Scripted(), small_config(epochs=5, checkpoint_every=2), tmp_path)
    return tmp_path / "checkpoints"


def test_best_last_and_periodic_ones_are_written(folder: Path) -> None:
    epochs = {path.stem: Checkpoint.load(path).epoch for path in folder.iterdir()}
    assert epochs == {"best": 1, "last": 4, "epoch_0002": 1, "epoch_0004": 3}
    best, second = (Checkpoint.load(folder / f"{name}.pt") for name in ("best", "epoch_0002"))
    assert digest_tensors(best.model) == digest_tensors(second.model)
    assert best.step == 12


def test_checkpoint_comes_back_as_it_was(folder: Path) -> None:
    one = Checkpoint.load(folder / "last.pt")
    one.save(folder / "again.pt")
    other = Checkpoint.load(folder / "again.pt")
    assert digest_tensors(one.model) == digest_tensors(other.model)
    assert one.rng.digest() == other.rng.digest()
    assert (one.step, one.epoch, one.progress) == (other.step, other.epoch, other.progress)


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, proof = tmp_path / "best.pt", tmp_path / "proof"
    stored = {"schema": 1, "model": {"weight": torch.zeros(2)}, "more": Malicious(proof)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malicious(proof)))
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(StorageError) as raised:
        Checkpoint.load(path)
    assert not proof.exists()
    text = str(raised.value)
    assert str(path) in text
    assert "weights_only" not in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated_checkpoint_is_one_line(folder: Path, share: float) -> None:
    path = folder / "best.pt"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(StorageError, match=r"best\.pt: .*train again") as raised:
        Checkpoint.load(path)
    assert len(str(raised.value).splitlines()) == 1


@given(data=st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
def test_flipped_bytes_load_or_are_refused(folder: Path, data: st.DataObject) -> None:
    whole = (folder / "best.pt").read_bytes()
    spoiled = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        spoiled[place] ^= data.draw(st.integers(1, 255))
    path = folder / "spoiled.pt"
    path.write_bytes(spoiled)
    try:
        Checkpoint.load(path)
    except StorageError as error:
        assert "spoiled.pt" in str(error)  # noqa: PT017 - it may also load: then there is no error


def test_zip_bomb_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(64 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(StorageError, match="claims to unpack to 67108864 bytes; refused"):
        load_safely(path)


@pytest.mark.parametrize(
    "stored", [3, [], {"schema": 2}, {"schema": 1}, {"schema": 1, "rng": 3}, {"schema": 1, "x": 1}]
)
def test_torch_files_that_are_no_checkpoints_are_refused(tmp_path: Path, stored: Any) -> None:
    torch.save(stored, tmp_path / "best.pt")
    with pytest.raises(StorageError, match=r"best\.pt"):
        Checkpoint.load(tmp_path / "best.pt")


def test_missing_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the checkpoint is missing; train again"):
        Checkpoint.load(tmp_path / "best.pt")


def test_saving_twice_the_same_writes_the_same_values(tmp_path: Path) -> None:
    one = rehearse(Blobs(), small_config(), tmp_path / "one")
    other = rehearse(Blobs(), small_config(), tmp_path / "other")
    assert whole_state(one) == whole_state(other)
    buffers = [io.BytesIO((tmp_path / name / "checkpoints/best.pt").read_bytes()) for name in
               ("one", "other")]  # fmt: skip
    digests = [digest_tensors(torch.load(buffer, weights_only=True)["model"]) for buffer in buffers]
    assert digests[0] == digests[1]
