"""The plugin's hooks. Without `--phase` they do next to nothing and import nothing heavy."""

import pytest

# Written out: the unused plugin imports nothing else of ours. A test compares it with STEPS.
PHASE_NAMES = ("planning", "baseline", "diagnostics", "optimization", "finalization")
GATE_IDS = "pytest_mltrainer/gates/"
SKIP_REASON = "a check of the {phase} gate: run with --phase={phase}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the group `mltrainer`."""
    group = parser.getgroup("mltrainer", "training gates")
    group.addoption(
        "--phase",
        choices=PHASE_NAMES,
        metavar="NAME",
        help="bring the training pipeline up to and including this phase and judge its gates: "
        + ", ".join(PHASE_NAMES),
    )
    group.addoption(
        "--mltrainer-plan",
        action="store_true",
        help="with --phase: say what would run, why, and how long it takes; run nothing",
    )
    group.addoption(
        "--mltrainer-frozen",
        action="store_true",
        help="with --phase: do no phase work; what is missing or stale is a failure (for CI)",
    )
    group.addoption(
        "--mltrainer-retrain",
        action="store_true",
        help="with --phase: redo a stale training even if it took over 10 minutes",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; with `--phase`, hand over to the pipeline's hooks."""
    config.addinivalue_line(
        "markers", "gate(phase): the test is a check of the gate of this phase (pytest-mltrainer)"
    )
    phase = config.getoption("--phase")
    if phase:
        from pytest_mltrainer.driver import start

        start(config, phase)
        return
    for name in ("plan", "frozen", "retrain"):
        if config.getoption(f"mltrainer_{name}"):
            raise pytest.UsageError(f"--mltrainer-{name} goes with --phase=NAME")
    for argument in config.args:
        if argument.startswith(GATE_IDS):
            named = argument.removeprefix(GATE_IDS).partition("/")[0]
            raise pytest.UsageError(
                f"{argument} is a check of a training gate: run it with --phase={named}"
            )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `--phase`, skip the checks of gates: there is nothing that they could judge."""
    if config.getoption("--phase"):
        return
    gates = config.rootpath / "gates"
    own_gates = gates if gates.is_dir() else None
    for item in items:
        mark = item.get_closest_marker("gate")
        phase = mark.args[0] if mark is not None and mark.args else None
        if phase is None and own_gates is not None and item.path.is_relative_to(own_gates):
            folder = item.path.relative_to(own_gates).parts[0]
            phase = folder if folder in PHASE_NAMES else None
        if phase is not None:
            item.add_marker(pytest.mark.skip(reason=SKIP_REASON.format(phase=phase)))
