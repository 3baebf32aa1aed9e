"""Values of the core for laws: digests, names, manifests, verdicts, and damaged JSON."""

from typing import Any

from hypothesis import strategies as st

from pytest_mltrainer.core.artifacts import Manifest, StepRecord
from pytest_mltrainer.core.verdict import (
    Basis,
    CheckOutcome,
    CheckResult,
    Verdict,
    outcome_of,
)

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.sampled_from(["best.pt", "telemetry/steps.rec", "decision.json", "plots/curves.svg"])
ARTIFACTS = st.dictionaries(NAMES, DIGESTS, max_size=3)
INPUTS = st.dictionaries(
    st.sampled_from(["config/seed", "code/task.py", "data/a.csv", "numerics/torch"]),
    st.text(max_size=5),
    max_size=3,
)
STEP_RECORDS = st.builds(StepRecord, inputs=INPUTS, outputs=ARTIFACTS, duration_s=st.floats(0, 1e6))
MANIFESTS = st.builds(
    Manifest,
    phase=st.sampled_from(["planning", "baseline", "finalization"]),
    steps=st.dictionaries(st.sampled_from(["train", "evaluate"]), STEP_RECORDS),
    decision=st.none()
    | st.fixed_dictionaries(dict.fromkeys(("status", "next", "reason"), st.text(max_size=4))),
    record=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
OUTCOMES = st.sampled_from(
    ["pass", "fail", "cannot judge", "not applicable", "waived", "awaiting signature"]
)
CHECK_IDS = st.sampled_from([f"baseline/check_{letter}" for letter in "abcde"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(0, 1) | st.text(max_size=3)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict:
    """Verdicts that a gate can really reach."""
    checks: dict[str, CheckOutcome] = draw(st.dictionaries(CHECK_IDS, OUTCOMES))
    required = draw(st.lists(CHECK_IDS, unique=True))
    return Verdict(
        phase="baseline",
        outcome=outcome_of(
            {name: CheckResult(id=name, outcome=ended) for name, ended in checks.items()}, required
        ),
        basis=Basis(
            artifacts=draw(ARTIFACTS),
            objective=draw(DIGESTS),
            limits=draw(DIGESTS),
            check_sources=draw(DIGESTS),
            required=tuple(required),
        ),
        checks=checks,
        previous=draw(DIGESTS),
        upstream=draw(st.dictionaries(st.just("planning"), DIGESTS)),
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value, the whole included."""
    found = [path]
    if isinstance(value, dict):
        for key, below in value.items():
            found += places(below, (*path, key))
    if isinstance(value, list):
        for index, below in enumerate(value):
            found += places(below, (*path, index))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy in which `new` stands at `path`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy
