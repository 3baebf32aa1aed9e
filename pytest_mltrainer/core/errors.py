"""Errors that are shown to people as text. What is not one of these is our own bug."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. Its text says where, what was found, wanted, and to do."""


class ConfigError(UserError):
    """Everything that is wrong with a configuration, all at once, one problem a line."""

    def __init__(self, problems: list[str]) -> None:
        """`problems` are complete sentences, each naming file, line and key."""
        super().__init__("\n".join(problems))
        self.problems = problems


class StorageError(UserError):
    """A file could not be written or read; the artifact that was there before is intact."""


class StaleError(UserError):
    """Artifacts are missing or do not belong to the present code, configuration or data."""


class SealedTestSetError(UserError):
    """Something asked for the test set outside finalization."""


class UnseededTrainingError(UserError):
    """Something tried to train without fixed seeds and a passed planning verdict."""


class PeerLostError(UserError):
    """Another process of the same training has gone, so this one cannot go on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or an empty text when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
