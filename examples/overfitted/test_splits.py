"""An ordinary test of the project: it runs without `--phase`, and before a release."""

from task import TumourTask

from pytest_mltrainer import Config


def test_the_splits_take_every_patient() -> None:
    splits = TumourTask().data(Config())
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sizes == [60, 250, 259]
