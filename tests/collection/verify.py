"""Whether the labels hold, by measured outcome: `python -m tests.collection.verify --seeds 1..3`.

Every case and its twin are trained without asking a diagnostic; the case's own check then says
what speaks against its label. A label stands when its check is content under every seed.
"""

import argparse
import sys
from collections.abc import Sequence

from .cases import PARTS, TWIN, Case
from .runs import CaseRun, run_cases
from .score import parsed, selected


def verified(cases: Sequence[Case], seeds: Sequence[int], jobs: int) -> list[str]:
    """A line for each label that does not hold; each case is told as it is judged."""
    wanted = [
        (trained, seed)
        for seed in seeds
        for case in cases
        for trained in ([case, case.mended] if case.has_twin else [case])
    ]
    found: dict[tuple[str, int], CaseRun] = {}
    problems: list[str] = []

    def judge(run: CaseRun) -> None:
        """Judge the case as soon as it and its twin are there."""
        found[run.case, run.seed] = run
        case = named[run.case.removesuffix(TWIN)]
        own, twin = found.get((case.id, run.seed)), found.get((case.id + TWIN, run.seed))
        if own is None or (case.has_twin and twin is None):
            return
        said = against(case, own, twin)
        text = f"{case.label:20} {case.id:34} seed {run.seed}: {numbers(own)}"
        text += f" | twin {numbers(twin)}" if twin else ""
        text = f"{'NO' if said else 'ok':3} {text}{' <- ' + said if said else ''}\n"
        print(text, end="", flush=True)
        if said:
            problems.append(f"{case.id}, seed {run.seed}: {said}")

    named = {case.id: case for case in cases}
    run_cases(wanted, jobs, judge, diagnosed=False)
    return problems


def against(case: Case, run: CaseRun, twin: CaseRun | None) -> str:
    """What speaks against the label, or a blank."""
    if run.outcome is None:
        return f"no outcome: {run.errors}"
    if twin is not None and (twin.outcome is None or twin.outcome.broken):
        return f"the twin has no outcome: {twin.errors}"
    return case.verify(run.outcome, twin.outcome if twin else None)


def numbers(run: CaseRun) -> str:
    """Best, last and training score, trivial and linear ones, and the time."""
    found = run.outcome
    if found is None:
        return "nothing"
    linear = "" if found.linear is None else f" linear {found.linear:.2f}"
    return (
        f"{'broken ' if found.broken else ''}best {found.best:.3f} last {found.last:.3f}"
        f" train {found.train:.3f} trivial {found.trivial:.2f}{linear} {run.duration_s:.1f} s"
    )


def main() -> int:
    """0 where every label holds, 1 else."""
    parser = argparse.ArgumentParser(prog="verify", description=__doc__)
    parser.add_argument("names", nargs="*", help="ids or labels; everything without any")
    parser.add_argument("--part", choices=PARTS, default=None)
    parser.add_argument("--seeds", type=parsed, default=[1], help="3, 1..3 or 1,4")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    problems = verified(selected(asked.part, asked.names), asked.seeds, asked.jobs)
    print(f"{len(problems)} labels do not hold", *problems, sep="\n  ")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
