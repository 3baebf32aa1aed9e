"""The chain of custody: the verdicts on the way to a final model, found again from their bytes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_mltrainer.core import ledger
from pytest_mltrainer.core.artifacts import (
    JUDGEMENTS,
    VERDICT,
    Manifest,
    PhaseFolder,
    RunFolder,
)
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.files import read_json, read_ledger
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.core.route import need
from pytest_mltrainer.core.verdict import Verdict, load_verdict
from pytest_mltrainer.core.witness import witness_problems

FINAL = "finalization"
BEST = "checkpoints/best.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One phase of the way, and what is wrong with it; without problems its verdict holds."""

    phase: str
    manifest: Manifest | None = None
    verdict: Verdict | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The phases on the way to the final model, and how often somebody tried."""

    links: Mapping[str, Link]
    problems: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def identities(self) -> dict[str, str]:
        """The identity of each verdict that could be read."""
        return {name: link.verdict.identity for name, link in self.links.items() if link.verdict}


def read_chain(run: RunFolder, *, with_final_verdict: bool) -> Chain:
    """Hash every artifact on the way and compare it with manifests, verdicts and ledger.

    `with_final_verdict`: whether finalization must have been judged, too; its own gate asks
    without. Nothing of the user's is imported and nothing is believed that was not hashed.
    """
    links = {
        phase: read_link(run, phase, is_judged=phase != FINAL or with_final_verdict)
        for phase in way(run)
    }
    problems = [problem for link in links.values() for problem in link.problems]
    problems += _upstream_problems(links)
    if with_final_verdict:
        problems += _identity_problems(links)
    try:
        events = ledger.events(run)
        problems += _ledger_problems(run, links, events)
    except StorageError as error:
        events = []
        problems.append(str(error))
    counts = Counter(str(entry.get("event")) for entry in events)
    return Chain(links=links, problems=tuple(problems), counts=counts)


def read_link(run: RunFolder, phase: str, *, is_judged: bool) -> Link:
    """One phase: its bytes against its manifest, its manifest against its verdict."""
    try:
        folder = run.phase(phase)
        manifest = folder.manifest()
        if manifest is None:
            return Link(phase=phase, problems=(f"{phase} is not done: there is no manifest",))
        problems = [f"{phase}/{name} {what}" for name, what in folder.damaged(manifest).items()]
    except StorageError as error:
        return Link(phase=phase, problems=(str(error),))
    verdict = None
    if is_judged:
        try:
            verdict = load_verdict(folder)
        except StorageError as error:
            return Link(phase=phase, manifest=manifest, problems=(*problems, str(error)))
        problems += _verdict_problems(phase, manifest, verdict)
        problems += _previous_problems(folder, verdict)
        problems += witness_problems(folder, verdict) if verdict else ()
    return Link(phase=phase, manifest=manifest, verdict=verdict, problems=tuple(problems))


def way(run: RunFolder) -> list[str]:
    """The phases that lead to the final model, by the decisions that are stored."""
    decisions: dict[str, Mapping[str, Any] | None] = {}
    for phase in PHASES:
        try:
            manifest = run.phase(phase).manifest()
        except StorageError:
            continue
        if manifest is not None:
            decisions[phase] = manifest.decision
    return [
        phase for phase in PHASES if phase == FINAL or need(phase, FINAL, decisions).answer == "yes"
    ]


def _verdict_problems(phase: str, manifest: Manifest, verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield f"{phase} has no verdict: its gate was never judged"
        return
    if verdict.outcome != "PASS":
        yield f"the gate of {phase} is {verdict.outcome}"
    judged, there = verdict.basis.artifacts, manifest.artifacts
    for name in sorted({*judged, *there}):
        if judged.get(name) != there.get(name):
            yield f"{phase}/{name} is not what the verdict of {phase} judged"
    for check in catalogue(phase):
        if check.id not in verdict.checks:
            yield f"check {check.id} was not judged"


def _previous_problems(folder: PhaseFolder, verdict: Verdict | None) -> Iterator[str]:
    """The judgement that a verdict names as the one before it must stand in the ledger."""
    try:
        before = {entry["identity"] for entry in read_ledger(folder.path / JUDGEMENTS)}
    except (StorageError, KeyError, TypeError) as error:
        yield f"{folder.phase}/{JUDGEMENTS} cannot be read ({error})"
        return
    if verdict is not None and verdict.previous and verdict.previous not in before:
        yield f"{folder.phase}/{VERDICT} names a judgement before it that {JUDGEMENTS} lacks"


def _upstream_problems(links: Mapping[str, Link]) -> Iterator[str]:
    """Each step must have used the very artifacts that lie upstream now."""
    for phase, link in links.items():
        for step, record in link.manifest.steps.items() if link.manifest else ():
            for name, digest in record.inputs.items():
                kind, _, artifact = name.partition("/")
                earlier, _, inside = artifact.partition("/")
                above = links[earlier].manifest if earlier in links else None
                if kind != "upstream" or above is None:
                    continue
                if above.artifacts.get(inside, "missing") != digest:
                    yield f"{phase} ({step}) was made with another {artifact} than is there"


def _identity_problems(links: Mapping[str, Link]) -> Iterator[str]:
    """The last verdict must name the verdicts upstream that are there."""
    final = links[FINAL].verdict
    for phase, link in links.items():
        if phase == FINAL or final is None or link.verdict is None:
            continue
        if final.upstream.get(phase) != link.verdict.identity:
            yield f"the verdict of {FINAL} stands on another verdict of {phase} than is there"


def _ledger_problems(
    run: RunFolder, links: Mapping[str, Link], events: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """The objective was fixed before the test set was first opened, by this model among others."""
    manifest = links[FINAL].manifest
    model = manifest.artifacts.get(BEST) if manifest else None
    openings = [index for index, entry in enumerate(events) if entry["event"] == ledger.OPENING]
    if model and all(events[index].get("model") != model for index in openings):
        yield f"{run.ledger.name}: this model's opening of the test set is not entered"
    if not openings or "planning" not in links or links["planning"].manifest is None:
        return
    objective = digest_value(read_json(run.phase("planning").artifact("objective.json")))
    planned = [
        entry.get("objective")
        for entry in events[: openings[0]]
        if entry["event"] == ledger.PLANNED
    ]
    if not planned or planned[-1] != objective:
        yield (
            f"{run.ledger.name}: the objective is younger than the first opening of the test set"
        )
