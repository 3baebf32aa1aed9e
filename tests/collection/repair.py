"""How well the pipeline repairs by itself: `python -m collection.repair --results DIR` in tests/.

Every case of the kinds that somebody may hope to repair becomes a project whose target its sick
program misses (`repair_projects.py`), and `pytest --phase=finalization` is run on it, once, with
nobody to help. Results are kept one by one, so what was interrupted goes on.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .cases import PARTS, Case
from .repairs import Repair, repaired
from .score import selected

KINDS = (
    "overfitting", "underfitting", "lr_too_low", "unstable_training", "exploding_gradients",
    "class_imbalance", "label_noise",
)  # fmt: skip
PAGE = Path(__file__).parents[2] / "docs" / "repair.md"


def repair_all(cases: Sequence[Case], results: Path, projects: Path) -> list[Repair]:
    """The result of each case, from `results` where it is there already; each is told."""
    found = []
    for case in cases:
        path = results / f"{case.id}.json"
        if not path.exists():
            repaired(case, projects / case.id).save(path)
        found.append(Repair.load(path))
        print(line(found[-1]), flush=True)
    return found


def line(repair: Repair) -> str:
    """One case: how it ended, its scores, the way, the cost."""
    value = "none" if repair.value is None else f"{repair.value:.3f}"
    return (
        f"{repair.ending:11} {repair.label:20} {repair.case:26} sick {repair.sick:.3f} target "
        f"{repair.target:.3f} end {value}, {repair.trainings} trainings, cost {repair.cost:.1f}, "
        f"{repair.duration_s:.0f} s: {repair.path or repair.said}"
    )


def summary(repairs: Sequence[Repair]) -> list[str]:
    """Shares repaired and explained, and the cost, each as a sentence."""
    if not (count := len(repairs)):
        return ["No case was run."]
    reached = [entry for entry in repairs if entry.ending == "reached"]
    explained = sum(entry.ending == "explained" for entry in repairs)
    costs = sorted(entry.cost for entry in reached)
    lines = [
        f"Repaired: {len(reached)} of {count} ({len(reached) / count:.0%}) meet the target on "
        "validation and on the test set, with no human edit.",
        f"Explained: {explained} of {count} miss it, and the pipeline says why.",
        f"Neither: {count - len(reached) - explained} of {count}.",
    ]
    if costs:
        lines.append(
            f"Cost of a repair: {costs[len(costs) // 2]:.1f} times the baseline's updates in the "
            f"median, from {costs[0]:.1f} to {costs[-1]:.1f}, beyond baseline and final training."
        )
    return lines


def page(repairs: Sequence[Repair]) -> str:
    """The results as Markdown."""
    rows = [
        [
            f"`{entry.case}`", entry.label, entry.metric, f"{entry.sick:.3f}",
            f"{entry.cured:.3f}", f"{entry.target:.3f}",
            "none" if entry.value is None else f"{entry.value:.3f}", entry.ending,
            entry.issue or "(none)", str(entry.trainings), f"{entry.cost:.1f}",
        ]
        for entry in repairs
    ]  # fmt: skip
    head = [
        "case", "sickness", "metric", "sick", "cured", "target", "end", "ending", "diagnosed",
        "trainings", "cost",
    ]  # fmt: skip
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
    parts = [
        "# How well the pipeline repairs by itself",
        "Sick programs of the labelled collection, each as a project whose target lies half way "
        "between what the program reaches as it is (*sick*) and what the same program reaches "
        "without the fault (*cured*), both measured. `pytest --phase=finalization` is run once, "
        "and nobody helps. *Reached*: the final model meets the target on the test set. "
        "*Explained*: it does not, and the pipeline says why. *Cost*: updates of all trainings "
        "beyond baseline and final training, over those of the baseline: 1 where a broken baseline "
        "is mended at once; else 0.75 for the learning curve, 6 and more for winner and baseline "
        "on three fresh seeds, and the trials. Cases that are not listed were not run. Written by "
        "`python -m collection.repair --write` in `tests/`.",
        "\n".join(f"- {sentence}" for sentence in summary(repairs)),
        table,
        "## The ways",
        "\n".join(f"- `{entry.case}`: {entry.path or 'none'}" for entry in repairs),
        "## What is said where the target was missed",
        _listed([f"`{entry.case}`: {entry.said or 'nothing'}"
                 for entry in repairs if entry.ending != "reached"]),
        "## What the last gate holds against models that met the target",
        _listed([f"`{entry.case}`: {', '.join(entry.objections)}"
                 for entry in repairs if entry.ending == "reached" and entry.objections]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _listed(entries: Sequence[str]) -> str:
    return "\n".join(f"- {entry}" for entry in entries) or "Nothing."


def main() -> int:
    """0 where every case was repaired or explained, 1 else."""
    parser = argparse.ArgumentParser(prog="repair", description=__doc__)
    parser.add_argument("names", nargs="*", help="ids or labels; every kind without any")
    parser.add_argument("--part", choices=PARTS, default=None)
    parser.add_argument("--results", type=Path, required=True, help="where results are kept")
    parser.add_argument("--projects", type=Path, help="where projects are kept, to look at them")
    parser.add_argument("--done", action="store_true", help="only cases whose result is there")
    parser.add_argument("--write", action="store_true", help="write docs/repair.md")
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    cases = [
        case for kind in KINDS for case in selected(asked.part, asked.names) if case.label == kind
    ]
    if asked.done:
        cases = [case for case in cases if (asked.results / f"{case.id}.json").exists()]
    with tempfile.TemporaryDirectory(prefix="repair-") as folder:
        repairs = repair_all(cases, asked.results, asked.projects or Path(folder))
    if asked.write:
        PAGE.write_text(page(repairs), encoding="utf-8")
    print(*summary(repairs), sep="\n")
    return 0 if all(entry.ending != "unexplained" for entry in repairs) else 1


if __name__ == "__main__":
    sys.exit(main())
