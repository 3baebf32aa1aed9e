"""What is collected depends on the paths that were given, not on the folder one stands in."""

from gate_runs import PASSING_CHECK, PLANNING, Copied, Run, collected, ids_of, verdict, write

OWN = "checks/test_own.py::test_own"


def test_without_a_path_the_whole_project_is_collected(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "checks/test_own.py", PASSING_CHECK.format(phase="planning"))
    below = project / "notebooks"
    below.mkdir()
    assert collected(run(below, "--phase=planning", "--co", "-q")) == [*ids_of("planning"), OWN]


def test_without_a_path_testpaths_are_collected(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "checks/test_own.py", PASSING_CHECK.format(phase="planning"))
    write(project, "attic/test_old.py", PASSING_CHECK.format(phase="planning"))
    table = project / "pyproject.toml"
    table.write_text(table.read_text() + '\n[tool.pytest.ini_options]\ntestpaths = ["checks"]\n')
    for folder in (project, project / "attic"):
        found = collected(run(folder, "--phase=planning", "--co", "-q"))
        assert found == [*ids_of("planning"), OWN]


def test_a_path_judges_a_part_and_cannot_pass(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "checks/test_own.py", PASSING_CHECK.format(phase="planning"))
    (project / "elsewhere").mkdir()
    assert run(project, "--phase=planning").ret == 0
    before = verdict(project, "planning")
    assert OWN in before["required"]
    result = run(project, "--phase=planning", "elsewhere")
    result.stdout.fnmatch_lines([f"planning * INCOMPLETE *{PLANNING} passed, 1 not run*"])
    assert result.ret == 1
    assert verdict(project, "planning") == before


def test_a_path_leaves_the_gates_before_honoured(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "checks/test_own.py", PASSING_CHECK.format(phase="planning"))
    (project / "elsewhere").mkdir()
    assert run(project, "--phase=planning").ret == 0
    result = run(project, "--phase=baseline", "elsewhere", "-k", "beats_trivial")
    result.stdout.fnmatch_lines(["planning * PASS *HONOURED*"])
