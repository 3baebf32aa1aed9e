"""Evidence moves from one machine to another, whole or not at all."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from signers import Office, judge_signatures

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.artifacts import RunFolder, file_names
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.release.pack import pack_run, unpack_run
from pytest_mltrainer.release.verify import find_run, verify_run


def test_a_run_verifies_where_it_is_unpacked(
    waiting: Path, office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    office.sign_all(waiting)
    judge_signatures(waiting)
    archive = tmp_path / "run.tar"
    assert main(["pack", str(archive), str(waiting)]) == 0
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "training_config.yaml"):
        (clone / name).write_bytes((waiting / name).read_bytes())
    assert main(["unpack", str(archive), str(clone)]) == 0
    assert "next: pytest --phase=finalization --mltrainer-frozen" in capsys.readouterr().out
    assert verify_run(*find_run(clone)).is_ready
    assert main(["unpack", str(archive), str(clone)]) == 2
    assert "there is a run already" in capsys.readouterr().err


def test_the_same_run_gives_the_same_bytes(waiting: Path, tmp_path: Path) -> None:
    run = find_run(waiting)[0]
    counts = [pack_run(run, tmp_path / name) for name in ("one.tar", "two.tar")]
    assert counts[0] == counts[1] > 20
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_unfinished_work_and_locks_stay(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("attempts/baseline/big.bin", "lock", "lock.json", "ledger.jsonl", "locksmith"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    pack_run(RunFolder(run), tmp_path / "run.tar")
    unpack_run(tmp_path / "run.tar", tmp_path / "there")
    assert file_names(tmp_path / "there") == ["ledger.jsonl", "locksmith"]


def test_a_link_is_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/link").symlink_to("/etc/hosts")
    with pytest.raises(StorageError, match="it is a link"):
        pack_run(RunFolder(tmp_path / "run"), tmp_path / "run.tar")


def _archive(path: Path, index: object, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        data = json.dumps(index).encode()
        for info, content in [(tarfile.TarInfo("pack.json"), data), *members]:
            if info.isfile():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _index(**files: str) -> dict[str, object]:
    return {"schema": 1, "files": files}


def escaping(path: Path) -> Path:
    return _archive(path, {"schema": 1, "files": {"../x": "0"}}, (tarfile.TarInfo("../x"), b"x"))


def unnamed(path: Path) -> Path:
    return _archive(path, _index(), (tarfile.TarInfo("more"), b"x"))


def missing(path: Path) -> Path:
    return _archive(path, _index(a="0"))


def damaged(path: Path) -> Path:
    return _archive(path, _index(a="0"), (tarfile.TarInfo("a"), b"x"))


def linked(path: Path) -> Path:
    link = tarfile.TarInfo("a")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hosts"
    return _archive(path, _index(a="0"), (link, b""))


def twice(path: Path) -> Path:
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    members = [(tarfile.TarInfo("a"), b"x") for _ in range(2)]
    return _archive(path, _index(a=digest), *members)


def newer(path: Path) -> Path:
    return _archive(path, {"schema": 2, "files": {}})


def no_archive(path: Path) -> Path:
    path.write_bytes(b"x" * 5000)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (escaping, r"artifact name '\.\./x'"),
        (unnamed, "'more' does not belong in it"),
        (missing, "a is missing"),
        (damaged, "a is damaged"),
        (linked, "'a' does not belong in it"),
        (twice, "'a' does not belong in it"),
        (newer, "upgrade"),
        (no_archive, "not readable as a packed run"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_archive_that_pack_did_not_write(
    make: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        unpack_run(make(tmp_path / "run.tar"), tmp_path / "there")
    assert not (tmp_path / "there").exists()
    assert not list(tmp_path.glob(".tmp-*"))
