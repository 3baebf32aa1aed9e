"""One module per way to start a worker."""

from collections.abc import Mapping, Sequence

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError, did_you_mean
from pytest_mltrainer.core.work import TRAIN, Launcher
from pytest_mltrainer.launchers.local import LocalLauncher
from pytest_mltrainer.launchers.torchrun import TorchrunLauncher

__all__ = ["LocalLauncher", "TorchrunLauncher", "choose"]


def choose(
    config: Config, steps: Sequence[str], more: Mapping[str, Launcher] | None = None
) -> Launcher:
    """The launcher of `launch.kind` for work that trains, else the local one.

    `more` are those of plugins, by name. Raises ConfigError for a kind that does not exist, and for
    settings of `launch` that contradict each other.
    """
    launch = config.launch
    launchers: dict[str, Launcher] = {
        "local": LocalLauncher(),
        "torchrun": TorchrunLauncher(launch),
        **(more or {}),
    }
    problems = []
    if launch.kind not in launchers:
        problems.append(
            f"launch.kind: found '{launch.kind}', wanted one of {', '.join(launchers)}."
            + did_you_mean(launch.kind, launchers)
        )
    if launch.kind == "local" and (launch.processes, launch.nodes) != (1, 1):
        problems.append(
            f"launch: found {launch.processes} processes on {launch.nodes} nodes with kind local, "
            "which trains in one process: write kind: torchrun, or leave them out"
        )
    if launch.kind == "torchrun" and launch.nodes > 1 and launch.rendezvous is None:
        problems.append(
            f"launch.rendezvous: found nothing with {launch.nodes} nodes, wanted host:port of the "
            "node that runs pytest: write for example node0:29400"
        )
    if problems:
        raise ConfigError([f"training_config.yaml {problem}" for problem in problems])
    return launchers[launch.kind if TRAIN in steps else "local"]
