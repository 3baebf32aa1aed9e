"""What a module imports when it is loaded, measured in a new process.

import-linter sees imports inside functions too, where torch and scikit-learn are welcome; the cost
that every user of pytest would pay is that of the imports at the top, ours and those behind them.
"""

import subprocess
import sys

import pytest

import pytest_mltrainer

SLOW = ("sklearn", "scipy", "matplotlib", "onnx", "onnxruntime")

IMPORT = """
import importlib, pkgutil, sys
import pytest_mltrainer

def modules(name):
    module = importlib.import_module(name)
    for entry in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
        # An adapter is loaded only by a task that uses its framework, which need not be here.
        if not entry.name.startswith("pytest_mltrainer.adapters."):
            importlib.import_module(entry.name)

for name in sys.argv[1].split():
    modules(name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("names", "unwanted"),
    [
        pytest.param(
            "pytest_mltrainer.plugin pytest_mltrainer.fixtures pytest_mltrainer.collection "
            "pytest_mltrainer.reporting",
            ("torch", "numpy", *SLOW),
            id="what pytest loads",
        ),
        pytest.param("pytest_mltrainer.cli", ("torch", "numpy", *SLOW), id="command line"),
        pytest.param(
            "pytest_mltrainer.core", ("pytest", "_pytest", "torch", "numpy", *SLOW), id="core"
        ),
        pytest.param("pytest_mltrainer.launchers", ("pytest", "torch", "numpy"), id="launchers"),
        pytest.param("pytest_mltrainer.diagnostics", ("pytest", "torch", *SLOW), id="diagnostics"),
        pytest.param("pytest_mltrainer", SLOW, id="everything"),
    ],
)
def test_loading_leaves_out(names: str, unwanted: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in unwanted if name in done.stdout.split()] == []


@pytest.mark.parametrize("name", pytest_mltrainer.__all__)
def test_every_public_name_is_found_where_it_is_said_to_be(name: str) -> None:
    assert callable(getattr(pytest_mltrainer, name))
