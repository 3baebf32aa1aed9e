"""The strict loader: values mean what they look like, hostile files cost nothing."""

import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mltrainer.core.document import Document
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.core.strict_yaml import load_yaml, resolve

NAME = "training_config.yaml"
KEYS = st.from_regex(r"[a-zA-Z_0-9 -]{1,12}", fullmatch=True)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


class Quoting(yaml.SafeDumper):
    """Quotes every text, since YAML 1.1 leaves some bare that are numbers here (`1e-3`)."""


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


def read(folder: Path, content: str | bytes) -> Document:
    path = folder / NAME
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_yaml(path)


def value(folder: Path, text: str) -> Any:
    document = read(folder, f"a: {text}\n")
    assert document.problems == ()
    return document.values["a"]


def problems(folder: Path, text: str) -> list[str]:
    document = read(folder, text)
    return [problem.sentence(NAME) for problem in document.problems]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1_000", 1000),
        ("-7", -7),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("no", "no"),
        ("on", "on"),
        ("010", "010"),
        ("1_", "1_"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("0,8", "0,8"),
        ("٣", "٣"),
    ],
)
def test_values_mean_what_they_look_like(tmp_path: Path, text: str, meant: object) -> None:
    found = value(tmp_path, text)
    assert found == meant
    assert type(found) is type(meant)


def test_not_finite_values_are_kept_for_the_schema(tmp_path: Path) -> None:
    assert math.isnan(value(tmp_path, ".nan"))
    assert value(tmp_path, "-.inf") == -math.inf
    assert value(tmp_path, "1e999") == math.inf


def test_a_number_of_a_thousand_digits_stays_text() -> None:
    assert resolve("9" * 5000) == "9" * 5000


@given(mapping=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_yaml_writes_is_read_back(tmp_path: Path, mapping: dict[str, Any]) -> None:
    text = yaml.dump(mapping, Dumper=Quoting)
    document = read(tmp_path, text)
    assert document.problems == ()
    assert document.values == mapping


def test_lines_of_keys_and_items(tmp_path: Path) -> None:
    document = read(tmp_path, "# head\na:\n  b: 1\n\n  c:\n    - x\n    - y\n")
    assert document.line_of(("a", "b")) == 3
    assert document.line_of(("a", "c", 1)) == 7
    assert document.line_of(("a", "b", "below", "nowhere")) == 3
    assert document.line_of(("z",)) is None


def test_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    assert problems(tmp_path, "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n") == [
        f"{NAME}:5 b.c: found the key twice, at lines 3 and 5, wanted it once: delete one of them"
    ]


def test_a_section_twice_is_one_problem(tmp_path: Path) -> None:
    assert len(problems(tmp_path, "a:\n  b: 1\na:\n  b: 2\n")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x 1\n", ":1 a: found the anchor '&x'"),
        ("a: 1\nb: *x\n", ":2 b: found the alias '*x'"),
        ("a: !!python/object/apply:os.abort []\n", ":1 a: found the tag '!!python/object/apply"),
        ("a: !!int '3'\n", "delete the tag"),
        ("a: ! x\n", "found the tag '!'"),
        ("<<: {a: 1}\n", "found a merge key"),
        ("1: x\n", ":1 1: found a key that is not text"),
        ("null: x\n", "found a key that is not text"),
        ("[a]: x\n", "found a key that is not text"),
        ("training.epochs: 3\n", "found a dot in the key, wanted nested keys: write training:"),
    ],
)
def test_what_is_refused_key_by_key(tmp_path: Path, text: str, words: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert words in problem


def test_everything_is_collected(tmp_path: Path) -> None:
    found = problems(tmp_path, "a: &x 1\nb: *x\nc: !t 1\nc: 2\n1: 3\n")
    assert [re.findall(r":(\d+) ", problem)[0] for problem in found] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found an empty file"),
        (b"# only a comment\n", "found an empty file"),
        (b"---\n", "found an empty file"),
        (b"- a\n- b\n", "wanted 'key: value' lines"),
        (b"just text\n", "wanted 'key: value' lines"),
        (b"a: 1\nb: caf\xe9\n", f"{NAME}:2: found a byte that is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"a:\n\tb: 1\n", f"{NAME}:2: found a tab"),
        (b"a:\n  b: 1\n\tc: 1\n", f"{NAME}:3: found a tab"),
        (b"a: 1\nb:\t2\n", f"{NAME}:2: found a tab"),
        (b"a: 1\nb: \x00\n", f"{NAME}:2: found a control character"),
        (b"a: 1\n---\nb: 2\n", f"{NAME}:2: found a second document"),
        (b"a: [1, 2\nb: 3\n", "found text that is not YAML"),
        (b"a: 'open\n", "found text that is not YAML"),
        (b"a: b: c\n", f"{NAME}:1: found text that is not YAML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, content)
    assert words in str(raised.value)
    assert NAME in str(raised.value)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\n").values == {"a": 1}


def test_a_tab_inside_block_text_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, "a: |\n  x\n  \ty\n").values == {"a": "x\n\ty\n"}


def test_missing_file_says_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `pytest-mltrainer init`"):
        load_yaml(tmp_path / NAME)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load_yaml(tmp_path)


def test_fifty_levels_are_accepted_and_one_more_is_not(tmp_path: Path) -> None:
    read(tmp_path, "a: " + "[" * 49 + "]" * 49)
    with pytest.raises(ConfigError, match="deeper nesting"):
        read(tmp_path, "a: " + "[" * 50 + "]" * 50)


@pytest.mark.parametrize(
    "content",
    [
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{b: " * 5000 + "}" * 5000,
        "- " * 5000,
        "? " * 5000,
        "\n".join(" " * depth + "a:" for depth in range(1200)),
        "x: " * 5000,
        "a: " + "1" * 10_000_000,
        "a:\n" + " b: 1\n" * 100_000,
        "a: [" + "&b 1," * 100_000 + "]",
    ],
    ids=[
        "lists",
        "mappings",
        "items",
        "keys",
        "blocks",
        "values",
        "10 MB",
        "duplicates",
        "anchors",
    ],
)
def test_hostile_size_and_depth_end_at_once(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    started = time.process_time()
    with pytest.raises(ConfigError):
        load_yaml(tmp_path / NAME)
    assert time.process_time() - started < 0.8


def test_alias_bomb_is_not_expanded(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    started = time.process_time()
    with pytest.raises(ConfigError, match="found the alias"):
        read(tmp_path, "\n".join(rows))
    assert time.process_time() - started < 0.5
