"""The study behind a search: what it draws, how it ends hopeless trials, and where it is kept."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.optimization.search import Search, StudyPlan
from pytest_mltrainer.training.optimization.search_space import Dimension
from pytest_mltrainer.training.optimization.storage import check_storage, redacted
from pytest_mltrainer.training.optimization.trials import Trial

SPACE = (
    Dimension(key="training.learning_rate", low=1e-4, high=1e-1, log=True),
    Dimension(key="model.width", low=4, high=64, log=True, whole=True),
)
MakePlan = Callable[..., StudyPlan]


@pytest.fixture
def study(tmp_path: Path) -> MakePlan:
    def make(**changes: Any) -> StudyPlan:
        plan = StudyPlan(
            name="round-1",
            space=SPACE,
            maximize=True,
            pruner="median",
            epochs=10,
            seed=7,
            jobs=1,
            storage=None,
            journal=tmp_path / "study.log",
            owner="here",
        )
        return replace(plan, **changes)

    return make


def ended(name: str, value: float | None, status: str = "finished") -> Trial:
    return Trial(
        id=name,
        round=1,
        kind="search",
        origin="",
        patch={},
        seed=7,
        identity=name,
        status=status,  # type: ignore[arg-type]
        value=value,
        progress=tuple([value] * 10),
    )


def drawn(search: Search, count: int) -> list[dict[str, Any]]:
    """The patches of `count` draws, each told the score of its width."""
    patches = []
    for number in range(count):
        draw = search.draw(f"r1-{number:02d}")
        search.tell(draw, ended(draw.trial, draw.patch["model.width"] / 100))
        patches.append(dict(draw.patch))
    return patches


def test_draws_are_inside_the_space_and_repeat_with_the_seed(
    study: MakePlan, tmp_path: Path
) -> None:
    first = drawn(Search(study()), 8)
    again = drawn(Search(study(journal=tmp_path / "again.log")), 8)
    other = drawn(Search(study(journal=tmp_path / "other.log", seed=8)), 8)
    assert first == again
    assert first != other
    assert all(part.holds(patch[part.key]) for patch in first for part in SPACE)


def test_reopened_study_draws_what_it_would_have_drawn(study: MakePlan, tmp_path: Path) -> None:
    whole = drawn(Search(study()), 8)
    parts = [drawn(Search(study(journal=tmp_path / "cut.log")), 5)]
    search = Search(study(journal=tmp_path / "cut.log"))
    for number in range(5, 8):
        draw = search.draw(f"r1-{number:02d}")
        search.tell(draw, ended(draw.trial, draw.patch["model.width"] / 100))
        parts.append([dict(draw.patch)])
    assert [patch for part in parts for patch in part] == whole


def test_interrupted_draw_is_offered_again_to_its_owner_alone(study: MakePlan) -> None:
    draw = Search(study()).draw("r1-03")
    assert [entry.patch for entry in Search(study()).interrupted()] == [draw.patch]
    assert Search(study(owner="elsewhere")).interrupted() == []


def test_torn_line_and_lock_of_a_killed_process_are_mended(study: MakePlan) -> None:
    plan = study()
    drawn(Search(plan), 2)
    with plan.journal.open("ab") as stream:
        stream.write(b'{"op_code":5,"trial')
    Path(f"{plan.journal}.lock").symlink_to(plan.journal)
    search = Search(plan)
    assert search.drawn() == 2
    drawn(search, 1)
    assert search.drawn() == 3


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruner_ends_a_hopeless_trial_and_no_other(study: MakePlan, pruner: str) -> None:
    search = Search(study(pruner=pruner, epochs=27))
    for number in range(6):
        draw = search.draw(f"good-{number}")
        for epoch in range(1, 28):
            search.is_hopeless(draw, epoch, 0.8 + epoch / 1000 + number / 100)
        search.tell(draw, ended(draw.trial, 0.9))
    bad, best = search.draw("bad"), search.draw("best")
    assert any(search.is_hopeless(bad, epoch, 0.1) for epoch in range(1, 28))
    assert not any(search.is_hopeless(best, epoch, 0.99) for epoch in range(1, 28))


def test_without_a_pruner_nothing_is_hopeless(study: MakePlan) -> None:
    search = Search(study(pruner="none"))
    draw = search.draw("r1-01")
    assert not any(search.is_hopeless(draw, epoch, float("nan")) for epoch in range(1, 11))


def test_known_trials_teach_the_search_once(study: MakePlan) -> None:
    plan = study()
    values = {"training.learning_rate": 0.01, "model.width": 32, "training.epochs": 3}
    for _ in range(2):
        Search(plan).learn("r1-01", values, ended("r1-01", 0.9))
    search = Search(plan)
    search.learn("broken", values, ended("broken", None, "broken"))
    assert search.drawn() == 0
    assert plan.journal.read_text().count('"known"') == 1


def test_known_trial_outside_the_space_still_tells_the_pruner(study: MakePlan) -> None:
    search = Search(study())
    for number in range(4):
        values = {"training.learning_rate": 0.01, "model.width": 4096}
        search.learn(f"r1-{number:02d}", values, ended(f"r1-{number:02d}", 0.9))
    draw = search.draw("r1-04")
    assert any(search.is_hopeless(draw, epoch, 0.1) for epoch in range(1, 11))


def test_best_trial_of_another_machine_is_offered(study: MakePlan) -> None:
    here, there = Search(study()), Search(study(owner="elsewhere"))
    for search, value in ((here, 0.5), (there, 0.8)):
        draw = search.draw("r1-01")
        search.tell(draw, ended(draw.trial, value))
    found = here.best_of_others()
    assert found is not None
    assert found == draw.patch
    assert there.best_of_others() is None


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a PostgreSQL server that keeps its data in `folder` and runs for this block."""
    pgserver = pytest.importorskip("pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            server = pgserver.get_server(folder)
        except Exception as error:
            pytest.skip(f"no PostgreSQL server starts here: {error}")
    try:
        yield server.get_uri().replace("postgresql:", "postgresql+psycopg:")
    finally:
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database that several machines may use."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'shared.db'}"
    else:
        with served(tmp_path / "postgresql") as url:
            yield url


def test_machines_that_start_at_once_share_a_study_by_url(study: MakePlan, shared: str) -> None:
    both = threading.Barrier(2)

    def work(owner: str) -> list[dict[str, Any]]:
        both.wait()
        return drawn(Search(study(storage=shared, owner=owner)), 4)

    with ThreadPoolExecutor() as pool:
        here, there = pool.map(work, ["here", "there"])
    assert not [patch for patch in here if patch in there]
    assert Search(study(storage=shared, owner="elsewhere")).drawn() == 8


def test_server_that_goes_down_keeps_the_study(study: MakePlan, tmp_path: Path) -> None:
    with served(tmp_path / "postgresql") as url:
        search = Search(study(storage=url))
        drawn(search, 2)
    with pytest.raises(UserError, match="the next run goes on from there"):
        drawn(search, 1)
    with served(tmp_path / "postgresql"):
        assert Search(study(storage=url)).drawn() == 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://anna:geheim@127.0.0.1:9/studies",
        "sqlite:////no/such/folder/study.db",
        "nonsense",
    ],
)
def test_storage_that_is_down_is_named_without_its_password(study: MakePlan, url: str) -> None:
    with pytest.raises(UserError) as refused:
        Search(study(storage=url))
    text = str(refused.value)
    assert text.startswith("training_config.yaml optimization.storage: found ")
    assert redacted(url) in text
    assert "geheim" not in text
    assert "\n" not in text


def test_password_of_a_storage_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"anna:\*\*\*@.*\$\{STUDY_PASSWORD\}") as refused:
        check_storage("postgresql+psycopg://anna:geheim@127.0.0.1:9/studies")
    assert "geheim" not in str(refused.value)
    for hidden in ("host/studies?user=anna&password=geheim", "anna:geheim${PW}@host/studies"):
        with pytest.raises(UserError, match="environment variable in its place") as refused:
            check_storage(f"postgresql+psycopg://{hidden}")
        assert "geheim" not in str(refused.value)
    named = "postgresql+psycopg://anna:${PASSWORD_OF_ANNA}@127.0.0.1:9/studies"
    with pytest.raises(UserError, match="variable PASSWORD_OF_ANNA to be set"):
        check_storage(named)
    monkeypatch.setenv("PASSWORD_OF_ANNA", "ge@heim")
    with pytest.raises(UserError, match=r"127\.0\.0\.1") as down:
        check_storage(named)
    assert "heim" not in str(down.value)
    monkeypatch.setenv("STUDY_FILE", str(tmp_path / "shared.db"))
    check_storage("sqlite:///${STUDY_FILE}")
    assert (tmp_path / "shared.db").exists()


def test_storage_that_goes_down_later_keeps_what_was_told(study: MakePlan, tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    search = Search(study(storage=f"sqlite:///{path}"))
    drawn(search, 2)
    kept = path.read_bytes()
    path.write_bytes(b"no database any more" * 500)
    with pytest.raises(UserError, match="the next run goes on from there"):
        drawn(search, 1)
    path.write_bytes(kept)
    assert Search(study(storage=f"sqlite:///{path}")).drawn() == 2


def test_study_costs_less_than_two_percent_of_small_trials(study: MakePlan) -> None:
    """Processor time of 12 trials of 30 epochs; the smallest worker takes 3 s in all."""
    search = Search(study(epochs=30))
    start = time.process_time()
    for number in range(12):
        draw = search.draw(f"r1-{number:02d}")
        for epoch in range(1, 31):
            search.is_hopeless(draw, epoch, 0.5 + epoch / 100 + number / 1000)
        search.tell(draw, ended(draw.trial, 0.9))
    assert (time.process_time() - start) / 12 < 0.02 * 3.0
