"""`final_report.md`: the whole way to the model on a page, for who has to approve it."""

from collections import Counter

from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.ledger import OPENING, events
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.core.verdict import load_verdict
from pytest_mltrainer.documents.markdown import Document, Value, code
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.training.results import scores_table, weakest_part
from pytest_mltrainer.training.run import TrainingRun

SECTIONS = ("Purpose", "Path", "Result", "Weakest part", "Disclosed", "Documents")


def final_report(run: TrainingRun, words: Words) -> str:
    """The report of a finalization, written before its own gate has judged."""
    model = sha256_file(run.folder.artifact("checkpoints/best.pt"))
    document = Document("Final report").section("Purpose").quote(words.quote("purpose"))
    document.section("Path").table(["phase", "verdict", "checks", "decision"], way(run))
    document.section("Result").paragraph("Checkpoint sha256 ", code(model), ".")
    target = run.config.objective.target
    wanted = "at least" if run.maximize else "at most"
    document.table(
        ["metric", "target", "test set"],
        [
            [
                run.metric.name,
                "none" if target is None else f"{wanted} {target:g}",
                run.evaluation.test.objective,
            ]
        ],
    )
    scores_table(document, run.evaluation.test)
    document.section("Weakest part").paragraph(weakest_part(run))
    document.section("Disclosed").paragraph("What happened up to this opening of the test set:")
    document.table(["event", "times"], [list(row) for row in disclosed(run, model)])
    document.section("Documents").bullets(
        [
            "test_results.md: every score, calibration, confusions",
            "model_card.md: purpose, users, limitations, data, training",
            "deployment_guide.md: files with digests, installing, serving, rolling back",
            "monitoring_guide.md: rules, false alarms, what to do",
        ]
    )
    return document.text()


def way(run: TrainingRun) -> list[list[Value]]:
    """The phases upstream: outcome, checks that passed, and what was decided."""
    rows: list[list[Value]] = []
    for phase in PHASES[: PHASES.index(run.phase)]:
        folder = run.run_folder.phase(phase)
        verdict, manifest = load_verdict(folder), folder.manifest()
        if verdict is None or manifest is None:
            rows.append([phase, "not needed", None, None])
            continue
        outcomes = Counter(verdict.checks.values())
        decision = manifest.decision or {}
        said = f"{decision['status']}: {decision['reason']}" if "reason" in decision else None
        rows.append([phase, verdict.outcome, f"{outcomes['pass']} passed", said])
    return rows


def disclosed(run: TrainingRun, model: str) -> list[tuple[str, int]]:
    """Events of the ledger up to the opening by this model: later ones are not of its making."""
    every = events(run.run_folder)
    own = [
        index
        for index, entry in enumerate(every)
        if entry["event"] == OPENING and entry["model"] == model
    ]
    until = every[: own[0] + 1] if own else every
    return sorted(Counter(str(entry["event"]) for entry in until).items())
