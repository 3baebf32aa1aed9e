"""The catalogue is what the gates' sources say, read without importing them."""

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_mltrainer.core.catalogue import (
    catalogue,
    gate_modules,
    gates_folder,
    source_digest,
)
from pytest_mltrainer.core.steps import STEPS

EVERY = [check for phase in STEPS for check in catalogue(phase)]


def test_every_gate_has_checks_and_their_ids_are_unique() -> None:
    assert all(catalogue(phase) for phase in STEPS)
    assert len({check.id for check in EVERY}) == len(EVERY)
    assert len({check.nodeid for check in EVERY}) == len(EVERY)


@pytest.mark.parametrize("check", EVERY, ids=lambda check: check.id)
def test_check_is_where_its_id_says_and_promises_something(check: object) -> None:
    from pytest_mltrainer.core.catalogue import Check

    assert isinstance(check, Check)
    path, _, function = check.nodeid.partition("::")
    source = gates_folder().parents[0] / path.removeprefix("pytest_mltrainer/")
    assert f"def {function}(" in source.read_text()
    assert check.id == f"{check.phase}/{function.removeprefix('test_')}"
    assert check.docstring.splitlines()[0].endswith(".")


def test_catalogue_imports_no_gate_and_no_torch() -> None:
    code = (
        "import sys; from pytest_mltrainer.core.catalogue import catalogue; "
        "assert catalogue('baseline'); "
        "print([name for name in sys.modules if '.gates.' in name or name == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unknown_gate_is_empty() -> None:
    assert catalogue("nonsense") == ()
    assert gate_modules("nonsense") == {}


def test_source_digest_follows_the_user_s_checks_but_not_their_comments(tmp_path: Path) -> None:
    file = tmp_path / "test_mine.py"
    file.write_text("def test_mine():\n    assert 1\n")
    before = source_digest("baseline", [file])
    assert before == source_digest("baseline", [file, file])
    assert before != source_digest("baseline", [])
    assert before != source_digest("planning", [file])
    file.write_text("# why\ndef test_mine():\n\n    assert 1  # because\n")
    assert source_digest("baseline", [file]) == before
    file.write_text("def test_mine():\n    assert 2\n")
    assert source_digest("baseline", [file]) != before


def test_source_digest_does_not_depend_on_order_or_place(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "test_x.py", tmp_path / "b" / "test_y.py"
    for number, file in enumerate((one, other)):
        file.parent.mkdir()
        file.write_text(f"def test_{number}(): assert {number}\n")
    assert source_digest("baseline", [one, other]) == source_digest("baseline", [other, one])
    moved = one.rename(tmp_path / "test_x.py")
    assert source_digest("baseline", [moved]) == source_digest("baseline", [moved])
