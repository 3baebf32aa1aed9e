"""With pytest-xdist the phases run serially all the same, and one line says so."""

from gate_runs import PLANNING, Copied, verdict
from support import run_pytest

LINE = "mltrainer: phases build on one another, so -n is off and all run serially"


def test_the_verdict_is_that_of_a_serial_run(copied: Copied) -> None:
    project = copied("healthy")
    before = verdict(project, "planning")
    done = run_pytest(project, "--phase=planning", "-n", "2", "-p", "no:randomly", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(LINE) == 1
    assert "[gw" not in done.stdout
    assert verdict(project, "planning") == before


def test_it_is_said_only_when_it_is_so(copied: Copied) -> None:
    done = run_pytest(copied("healthy"), "--phase=planning", "--co", "-p", "no:randomly")
    assert LINE not in done.stdout


def test_also_when_the_projects_options_say_so(copied: Copied) -> None:
    project = copied("healthy")
    table = project / "pyproject.toml"
    options = '[tool.pytest.ini_options]\naddopts = "-n 2 --dist=loadgroup"\n'
    table.write_text(f"{table.read_text()}\n{options}")
    done = run_pytest(project, "--phase=planning", "-k", "config_valid", "-p", "no:randomly")
    assert done.stdout.count(LINE) == 1
    assert f"1 passed, {PLANNING - 1} not run" in done.stdout, done.stdout + done.stderr
