"""What makes work stale, and what does not, with the words that name the change."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import CONFIG, World

from pytest_mltrainer.core.digests import digest_source, digest_value
from pytest_mltrainer.core.steps import STEPS, with_dependents

Change = Callable[[World], None]
ALL = ("train", "evaluate", "diagnose", "documents")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A project whose planning and baseline are current."""
    world = World(tmp_path)
    world.bring("planning", "baseline")
    return world


def config(old: str, new: str) -> Change:
    return lambda world: world.write("training_config.yaml", CONFIG.replace(old, new))


def file(name: str, text: str) -> Change:
    return lambda world: world.write(name, text)


def gone(name: str) -> Change:
    return lambda world: (world.root / name).unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda world: None,
        file("helper.py", "# sixteen\nWIDTH = (\n    16  # wide\n)\n"),
        config("seed: 7", "# the seed\nseed: 7"),
        config("model:", "limits: {probe_steps: 5}\nmodel:"),
        config("model:", "budgets: {baseline_minutes: 5}\nmodel:"),
        config("model:", "phases: {finalization: {training: {epochs: 50}}}\nmodel:"),
        config("model:", "export: {formats: [torchscript]}\nmodel:"),
        file("README.md", "not an input"),
        file("other.py", "NOT_IMPORTED = 1\n"),
    ],
    ids=[
        "nothing", "layout", "yaml comment", "limits", "budgets", "other phase", "export",
        "readme", "not imported",
    ],
)  # fmt: skip
def test_baseline_is_still_current(world: World, change: Change) -> None:
    change(world)
    assert world.state("baseline").stale == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (file("helper.py", "WIDTH = 17\n"), "helper.py changed"),
        (gone("helper.py"), "helper.py is missing"),
        (file("task.py", "import helper\nclass T: broken(\n"), "task.py changed"),
        (file("data/a.csv", "1,3\n"), "data file data/a.csv changed"),
        (gone("data/a.csv"), "data file data/a.csv is missing"),
        (file("sql/features.sql", "select 2;\n"), "sql/features.sql changed"),
        (file("sql/more.sql", "select 3;\n"), "sql/more.sql changed"),
        (gone("sql/features.sql"), "sql/features.sql is missing"),
        (config("0.001", "0.01"), "training.learning_rate: 0.001 -> 0.01"),
        (config("seed: 7", "seed: 8"), "seed: 7 -> 8"),
        (config("width: 16", "width: 32"), "model.width: 16 -> 32"),
        (config("mode: wide", "mode: deep"), 'model.mode: "wide" -> "deep"'),
        (config(", mode: wide", ""), 'model.mode: "wide" -> (absent)'),
        (config("width: 16", "width: 16, depth: 2"), "model.depth: (absent) -> 2"),
        (config("width: 16", "width: '16'"), 'model.width: 16 -> "16"'),
        (config("mode: wide", "mode: null"), 'model.mode: "wide" -> null'),
        (config("target: 0.9", "target: 0.8"), "objective.target: 0.9 -> 0.8"),
        (config("seed: 7", "seed: 7\nthreads: 2"), "threads: 1 -> 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_training_is_stale_for_a_named_reason(world: World, change: Change, reason: str) -> None:
    change(world)
    state = world.state("baseline")
    assert reason in state.stale["train"]
    assert reason in state.reasons
    assert state.redo == ALL
    assert not state.is_done


@pytest.mark.parametrize(
    "pair", [("'16'", "16"), ("'true'", "true"), ("'null'", "null"), ("[1]", "'[1]'")]
)
def test_text_that_looks_like_another_value_is_another_value(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    world = World(tmp_path)
    config("width: 16", f"width: {pair[0]}")(world)
    world.bring("planning", "baseline")
    config("width: 16", f"width: {pair[1]}")(world)
    assert world.state("baseline").redo == ALL


def test_other_versions_of_what_computes_are_a_reason_to_train_again(world: World) -> None:
    world.edit_manifest("baseline", "train", "numerics/numpy", "1.0")
    (reason,) = world.state("baseline").stale["train"]
    assert reason.startswith("numpy 1.0 -> ")


def test_device_is_compared_where_training_runs(world: World) -> None:
    world.edit_manifest("baseline", "train", "numerics/device", "NVIDIA H200")
    assert world.state("baseline").is_done


def test_package_that_is_gone_is_named(world: World) -> None:
    world.edit_manifest("baseline", "train", "numerics/no-such-package", "2.1")
    assert world.state("baseline").stale["train"] == ["no-such-package 2.1 -> (absent)"]


def test_other_splits_upstream_are_a_reason_to_train_again(world: World) -> None:
    world.edit_manifest("baseline", "train", "upstream/planning/splits.json", "0" * 64)
    assert world.state("baseline").stale["train"] == ["artifact planning/splits.json changed"]


def test_only_what_needs_a_stale_step_is_redone(world: World) -> None:
    world.edit_manifest("baseline", "diagnose", "code/helper.py", "0" * 64)
    assert world.state("baseline").redo == ("diagnose", "documents")


def test_export_settings_concern_export_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.bring("planning", "baseline", "finalization")
    config("model:", "export: {formats: [torchscript]}\nmodel:")(world)
    assert world.state("finalization").redo == ("export", "service", "documents")
    assert world.state("planning").redo == ("record",)


@pytest.mark.parametrize("phase", STEPS)
@given(data=st.data())
def test_redone_steps_are_closed_and_in_order(phase: str, data: st.DataObject) -> None:
    names = [step.name for step in STEPS[phase]]
    stale = data.draw(st.sets(st.sampled_from(names)))
    redo = with_dependents(phase, stale)
    assert stale <= set(redo)
    assert list(redo) == [name for name in names if name in redo]
    assert with_dependents(phase, redo) == redo
    for step in STEPS[phase]:
        assert step.name in redo or not set(step.needs) & set(redo)


def test_needs_point_backwards_and_upstream_at_what_exists() -> None:
    for steps in STEPS.values():
        for index, step in enumerate(steps):
            assert set(step.needs) <= {earlier.name for earlier in steps[:index]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(value=st.dictionaries(st.text(), st.integers()))
def test_digest_of_a_value_is_free_of_order(value: dict[str, int]) -> None:
    assert digest_value(value) == digest_value(dict(reversed(list(value.items()))))


@given(one=st.integers() | st.text() | st.booleans(), other=st.integers() | st.text())
def test_digests_differ_where_values_do(one: object, other: object) -> None:
    assert (digest_value(one) == digest_value(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("def f(x):\n    return x + 1\n", True),
        ("def f(x):  # adds one\n    # to x\n    return (x +\n            1)\n", True),
        ("def f(x):\r\n    return x + 1\r\n", True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(y):\n    return y + 1\n", False),
        ("def f(x: int):\n    return x + 1\n", False),
        ('def f(x):\n    """Doc."""\n    return x + 1\n', False),
        ("def f(x):\n    return x + 1\n\nf(3)\n", False),
        ("def f(x:\n", False),
    ],
)
def test_source_counts_by_its_meaning(tmp_path: Path, source: str, same: bool) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("def f(x):\n    return x + 1\n")
    other.write_bytes(source.encode())
    assert (digest_source(one) == digest_source(other)) is same


def test_broken_sources_and_other_files_count_by_their_bytes(tmp_path: Path) -> None:
    for name in ("broken.py", "query.sql"):
        path = tmp_path / name
        path.write_text("select (")
        before = digest_source(path)
        path.write_text("select ( ")
        assert digest_source(path) != before
    assert digest_source(tmp_path / "absent.py") == digest_source(tmp_path) == "missing"
