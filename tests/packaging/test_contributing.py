"""The code in CONTRIBUTING.md does what the text says."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

CONTRIBUTING = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

SECTIONS = {
    title: "\n\n".join(PYTHON.findall(text))
    for title, text in SECTION.findall(CONTRIBUTING.read_text(encoding="utf-8"))
    if PYTHON.search(text)
}


def test_each_extension_point_has_code() -> None:
    assert list(SECTIONS) == ["Add a check", "Add a diagnostic", "Add an exporter"]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_tests_of_a_section_pass(title: str) -> None:
    """The blocks of a section are one module; its tests are the `test_*` without arguments."""
    module: dict[str, Any] = {"__name__": "contributed"}
    exec(compile(SECTIONS[title], f"{CONTRIBUTING} ({title})", "exec"), module)
    tests = [
        value
        for name, value in module.items()
        if name.startswith("test_") and not inspect.signature(value).parameters
    ]
    assert tests
    for test in tests:
        test()
