"""The technical documentation: asked for by a profile, measured, quoted, and honest about gaps."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import inside, judge_check, phase_folder, reseal

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.steps import PROFILE_TOPICS
from pytest_mltrainer.core.verdict import CheckResult
from pytest_mltrainer.documents.compare import missing_sections
from pytest_mltrainer.documents.sectioned import (
    TECHNICAL_TOPICS,
    TECHNICAL_WORDS,
    TechnicalWords,
)
from pytest_mltrainer.documents.words import words_file
from pytest_mltrainer.release.documents import final_documents
from pytest_mltrainer.release.technical_documentation import SECTIONS, TECHNICAL_DOCUMENTATION
from pytest_mltrainer.release.technical_tables import REQUIREMENTS
from pytest_mltrainer.training.run import TrainingRun

PROFILE = "documents:\n  profile: eu-ai-act\n"
SLICES = "    def slice_key(self, split, index):\n        return ('even', 'odd')[index % 2]\n\n"


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file; it must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new, 1))


def technical_words(answer: str = "Answered.") -> str:
    parts = [f"## {topic}\n\n{answer} ({topic})\n" for topic in TECHNICAL_TOPICS]
    return "\n".join(["# For the technical documentation\n", *parts])


def asked_for(project: Path) -> Path:
    """The project with the profile, the words and the document, as the worker writes it."""
    (project / TECHNICAL_WORDS).write_text(technical_words())
    edit(project / "training_config.yaml", "export:", f"{PROFILE}export:")
    return write_again(project)


def write_again(project: Path) -> Path:
    with inside(project):
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "finalization")
        document(project).write_text(final_documents(run)[TECHNICAL_DOCUMENTATION]())
    return project


def document(project: Path) -> Path:
    return phase_folder(project, "finalization") / TECHNICAL_DOCUMENTATION


def judged(project: Path) -> CheckResult:
    reseal(project, "finalization")
    return judge_check("finalization/test_results", project)


def number_edited(project: Path) -> None:
    text = document(project).read_text()
    document(project).write_text(text.replace("| 0 | 0.9796 (n = 49", "| 0 | 0.9996 (n = 49"))


def threshold_edited(project: Path) -> None:
    edit(
        document(project),
        "| `limits.min_class_recall` | 0.5000",
        "| `limits.min_class_recall` | 0.4",
    )


def gap_hidden(project: Path) -> None:
    text = document(project).read_text()
    document(project).write_text(re.sub(r"Not covered by this tool: trials.*\n", "", text))


def section_taken_out(project: Path) -> None:
    text = document(project).read_text()
    document(project).write_text(re.sub(r"^## 8\..*?(?=^## 9\.)", "", text, flags=re.M | re.S))


def words_edited_behind_it(project: Path) -> None:
    edit(project / TECHNICAL_WORDS, "Answered. (Risks)", "There are none.")


def question_left(project: Path) -> None:
    edit(project / TECHNICAL_WORDS, "Answered. (Human oversight)", "<Who watches over the system?>")


def point_not_answered(project: Path) -> None:
    edit(project / TECHNICAL_WORDS, "## Standards\n\nAnswered. (Standards)\n", "")


def words_missing(project: Path) -> None:
    (project / TECHNICAL_WORDS).unlink()


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (number_edited, r"technical_documentation\.md that differ.*found '\| 0 \| 0\.9996 \(n = 49"),
    (threshold_edited, r"technical_documentation\.md that differ.*min_class_recall"),
    (gap_hidden, r"technical_documentation\.md that differ.*Not covered by this tool: trials"),
    (section_taken_out, r"missing sections of technical_documentation\.md: \['8\. EU declaration"),
    (words_edited_behind_it, r"technical_documentation\.md that differ.*There are none"),
    (question_left, r"eu_ai_act\.md, section Human oversight, still asks <Who watches over"),
    (point_not_answered, r"eu_ai_act\.md, section Standards, says nothing"),
    (words_missing, r"eu_ai_act\.md, section Provider and versions, says nothing"),
]


def test_it_passes_as_it_was_written_and_has_every_point(copied: Callable[..., Path]) -> None:
    project = asked_for(copied("healthy", "finalization"))
    result = judged(project)
    assert (result.outcome, result.reason) == ("pass", "")
    text = document(project).read_text()
    assert missing_sections(text, SECTIONS) == []
    assert all(f"Answered. ({topic})" in text for topic in TECHNICAL_TOPICS)
    points = re.findall(r"^### [12]\((\w)\)((?:, \(\w\))*)", text, re.M)
    letters = "".join(first + re.sub(r"\W", "", others) for first, others in points)
    assert sorted(letters) == sorted("abcdefgh" * 2)
    assert "no legal advice" in text
    assert "the task names no slices" in text
    assert not any("says nothing" in line for line in text.splitlines())


@pytest.mark.parametrize(
    ("fault", "says"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_finds(fault: Callable[[Path], None], says: str, copied: Callable[..., Path]) -> None:
    project = asked_for(copied("healthy", "finalization"))
    fault(project)
    result = judged(project)
    assert result.outcome == "fail", result
    assert re.search(says, result.reason), result.reason


def test_without_the_profile_nobody_is_asked_and_nothing_is_written(
    copied: Callable[..., Path],
) -> None:
    project = copied("healthy", "finalization")
    assert not document(project).exists()
    with inside(project):
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "finalization")
        assert TECHNICAL_DOCUMENTATION not in final_documents(run)


def test_groups_that_the_task_names_are_measured(copied: Callable[..., Path]) -> None:
    project = copied("healthy", "finalization")
    edit(project / "task.py", "    def data(", f"{SLICES}    def data(")
    text = document(asked_for(project)).read_text()
    assert re.search(r"\| even \| 65 \| [01]\.\d+ \(n = 65, 95 % interval", text)
    assert "the task names no slices" not in text


def test_init_asks_for_its_words_where_the_profile_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert not (tmp_path / TECHNICAL_WORDS).exists()
    (tmp_path / "training_config.yaml").write_text("unknown: 1\n")
    assert main(["init", str(tmp_path)]) == 0
    assert not (tmp_path / TECHNICAL_WORDS).exists()
    (tmp_path / "training_config.yaml").write_text(PROFILE)
    assert main(["init", str(tmp_path)]) == 0
    unfilled = TechnicalWords.read(tmp_path).unfilled()
    assert len(unfilled) == len(TECHNICAL_TOPICS)
    assert all("still asks <" in text for text in unfilled)
    assert f"written  {tmp_path / TECHNICAL_WORDS}" in capsys.readouterr().out


def test_words_keep_headings_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "docs/model").mkdir(parents=True)
    text = technical_words().replace(
        "Answered. (Data)", "## Sources\n\nOne clinic.\n\n### Year\n\n1995."
    )
    (tmp_path / TECHNICAL_WORDS).write_text(text)
    words = TechnicalWords.read(tmp_path)
    assert words.unfilled() == []
    assert words.quote("Data") == "#### Sources\n\nOne clinic.\n\n##### Year\n\n1995."
    assert words.quote("Human oversight") == "Answered. (Human oversight)"


def test_the_names_it_speaks_of_exist() -> None:
    known = {check.id.partition("/")[2] for check in catalogue("finalization")}
    named = {check for checks in REQUIREMENTS.values() for check in checks}
    assert named <= known
    (topic,) = PROFILE_TOPICS["eu-ai-act"]
    assert words_file(topic) == TECHNICAL_WORDS
