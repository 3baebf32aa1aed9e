"""The other nodes of a training: they wait in the run folder for attempts to take part in."""

import threading
from collections.abc import Callable
from pathlib import Path

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.lock import HOLDER
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers.local import LocalWork
from pytest_mltrainer.launchers.torchrun import MEETING, Meeting, node_folder, start_node

POLL_S = 0.2


def join(
    project: Project, *, told: threading.Event, wait_s: float, say: Callable[[str], None]
) -> None:
    """Serve the attempts of the run folder as a further node, one after another.

    Ends when it is `told` to, and when the pipeline of the first node has ended. Raises UserError
    when none has begun after `wait_s`. The run folder must be the same folder, by the same path, on
    every node.
    """
    holder = project.run_folder / HOLDER
    served: set[str] = set()
    has_begun, waited_s = False, 0.0
    while not told.wait(POLL_S):
        if not holder.exists():
            if has_begun:
                say("the pipeline of the first node has ended")
                return
            waited_s += POLL_S
            if waited_s > wait_s:
                raise UserError(
                    f"{project.run_folder}: found no pipeline within {wait_s:.0f} s, wanted one "
                    "that trains on several nodes: start pytest --phase=NAME on the first node"
                )
            continue
        has_begun = True
        for path in sorted(project.run_folder.glob(f"attempts/*/{MEETING}")):
            meeting = Meeting.load(path.parent)
            if meeting is not None and meeting.id not in served:
                served.add(meeting.id)
                _serve(meeting, path.parent, project, told, say)


def _serve(
    meeting: Meeting,
    attempt: Path,
    project: Project,
    told: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Be a node of one attempt until it ends here, or its meeting is over."""
    request = WorkRequest.load(attempt)
    if request.project_root != str(project.root):
        raise UserError(
            f"{attempt}: found a project at {request.project_root}, wanted {project.root}: mount "
            "the project at the same path on every node"
        )
    node = _claim(attempt, meeting)
    if node is None:
        say(f"{attempt.name}: all {meeting.nodes} nodes are there, so this one is not needed")
        return
    say(f"{attempt.name}: node {node} of {meeting.nodes}, {meeting.processes} processes")
    process = start_node(meeting, request, node=node)
    timeout_s = float(request.config["budgets"]["worker_timeout_minutes"]) * 60
    work = LocalWork(process, node_folder(attempt, node), timeout_s)
    try:
        while process.poll() is None and not told.wait(POLL_S):
            present = Meeting.load(attempt)
            if present is None or present.id != meeting.id:
                break
    finally:
        work.cancel()
    say(f"{attempt.name}: ended")


def _claim(attempt: Path, meeting: Meeting) -> int | None:
    """The lowest number of a node that no other has taken; None when there is none left."""
    for node in range(1, meeting.nodes):
        try:
            node_folder(attempt, node).mkdir()
        except FileExistsError:
            continue
        except FileNotFoundError:  # the attempt has ended meanwhile
            return None
        return node
    return None
