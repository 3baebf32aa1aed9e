"""The record of environment and source: complete, and without a secret."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.environment import capture_environment, lock_of, redact
from pytest_mltrainer.training.source import capture_source, rebuilt_tree

SECRET = "s3cr3t-v4lue"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:T"\n')
    return Project.load(tmp_path)


def git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "name",
    [
        "PYTHON_TOKEN", "TORCH_API_KEY", "torch_apikey", "CUDA_SECRET", "PYTORCH_PASSWORD",
        "NCCL_ACCESS_KEY", "PYTHON_CREDENTIALS", "TORCH_AUTH", "PYTHON_PRIVATE_KEY", "MKL_PASS",
        "TORCH_HUB_KEY",
    ],
)  # fmt: skip
def test_secret_variables_are_redacted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    captured = json.dumps(capture_environment(torch.device("cpu")))
    assert SECRET not in captured


@pytest.mark.parametrize(
    ("name", "value"),
    [("PYTHONHASHSEED", "0"), ("OMP_NUM_THREADS", "1"), ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")],
)
def test_variables_that_bear_on_numbers_are_kept(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert capture_environment(torch.device("cpu"))["variables"][name] == value


@pytest.mark.parametrize("name", ["HOME", "AWS_SESSION", "MY_DATABASE", "GITHUB_TOKEN"])
def test_other_variables_are_not_recorded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    captured = capture_environment(torch.device("cpu"))
    assert name not in captured["variables"]
    assert SECRET not in json.dumps(captured)


PASSWORDS = st.text("abc123!$&'()*+,;=:@%-._~", min_size=1)


@given(user=st.text("abc", max_size=3), password=PASSWORDS)
def test_credentials_in_a_url_are_redacted(user: str, password: str) -> None:
    url = f"https://{user}:{password}@host.example/path"
    assert redact("PYTHONPATH", f"before {url} behind") == (
        "before https://***@host.example/path behind"
    )


def test_environment_names_what_is_needed_to_make_it_again() -> None:
    captured = capture_environment(torch.device("cpu"))
    assert captured["packages"]["torch"] == torch.__version__
    assert captured["torch"] == torch.__version__
    assert captured["device"] == "cpu"
    assert captured["threads"] == torch.get_num_threads()


def test_the_lock_pins_what_an_index_has_and_names_what_it_has_not() -> None:
    environment = {
        "python": "3.11.9",
        "system": "Linux",
        "packages": {"numpy": "2.1.0", "Mine": "0.1", "forked": "1.0"},
        "origins": {"Mine": "file:///home/me/mine", "forked": "git+https://host.example/f@abc"},
    }
    assert lock_of(environment).splitlines() == [
        "# Python 3.11.9 on Linux",
        "forked @ git+https://host.example/f@abc",
        "# Mine==0.1 was installed from file:///home/me/mine",
        "numpy==2.1.0",
    ]


def test_the_lock_of_this_environment_is_a_requirements_file() -> None:
    lock = lock_of(capture_environment(torch.device("cpu")))
    requirements = [Requirement(line) for line in lock.splitlines() if not line.startswith("#")]
    assert f"torch=={torch.__version__}" in map(str, requirements)


def test_without_git_it_says_so(project: Project) -> None:
    facts = capture_source(project).facts
    assert facts["git"] is False
    assert facts["reason"]


def test_source_is_a_commit_and_the_patch_that_makes_the_tree_again(project: Project) -> None:
    root = project.root
    git(root, "init", "-q", "-b", "work")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    clean = capture_source(project)
    assert clean.facts["commit"] == git(root, "rev-parse", "HEAD")
    assert (clean.facts["branch"], clean.facts["patched"], clean.patch) == ("work", False, b"")
    (root / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:Other"\n')
    (root / "new file.py").write_text("VALUE = 1\n")
    changed = capture_source(project)
    assert changed.facts["patched"]
    assert b"new file.py" in changed.patch
    assert changed.facts["tree"] != clean.facts["tree"]
    assert rebuilt_tree(project, changed.facts["commit"], changed.patch) == changed.facts["tree"]
    assert git(root, "status", "--short") == 'M pyproject.toml\n?? "new file.py"'


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        (f"https://user:{SECRET}@host.example/a.git", "https://***@host.example/a.git"),
        (f"https://{SECRET}@host.example/a.git", "https://***@host.example/a.git"),
        (f"https://user:p@{SECRET}@host.example/a.git", "https://***@host.example/a.git"),
        ("git@host.example:team/a.git", "git@host.example:team/a.git"),
        ("https://host.example/a.git", "https://host.example/a.git"),
        ("", ""),
    ],
)
def test_remote_is_shown_without_credentials(project: Project, remote: str, shown: str) -> None:
    git(project.root, "init", "-q")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "first")
    if remote:
        git(project.root, "remote", "add", "origin", remote)
    assert capture_source(project).facts["remote"] == shown
