"""An ordinary test of the project: it runs without `--phase`, and before a release."""

from task import DigitsTask

from pytest_mltrainer import Config


def test_the_splits_take_every_image() -> None:
    splits = DigitsTask().data(Config())
    sizes = [len(part) for part in (splits.train, splits.validation, splits.test)]
    assert sizes == [1077, 360, 360]
