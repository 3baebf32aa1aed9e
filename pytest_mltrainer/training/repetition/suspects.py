"""Why two rehearsals differ: each source of nondeterminism is tried alone, and its lines named.

What is called a cause was shown to change digests. What was only seen is called so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pytest_mltrainer.training.repetition.disturbance import SHIFTED, SOURCES
from pytest_mltrainer.training.repetition.sightings import Sighting
from pytest_mltrainer.training.repetition.trial import Trial
from pytest_mltrainer.training.repetition.window import rehearsals_divergence

Found = Mapping[str, Any]
Run = Callable[[Sequence[Trial]], list[dict[str, Any]]]

MOST_PLACES = 3
RESUMED_PARTS = ("rng", "batch", "loss", "gradients", "parameters")

_DRAW = (
    "draw from random, numpy.random or torch, which are seeded for every epoch, and in a loader's "
    "worker for every batch"
)
CAUSES = {
    "entropy": (
        "random numbers without a fixed seed (an unseeded generator, seed(), uuid, os.urandom, "
        "secrets)",
        f"{_DRAW}, or seed by the sample: np.random.default_rng([config.seed, index])",
    ),
    "clock": ("the clock", f"{_DRAW}; keep times for what is only logged"),
    "hash": (
        "the order of a set, or the hash of a text, which PYTHONHASHSEED changes",
        "go over sorted(...) of the set; for a stable hash take zlib.crc32 or hashlib",
    ),
    "listing": (
        "the order in which a folder lists its files",
        "sorted(os.listdir(...)), sorted(folder.iterdir()), sorted(glob.glob(...))",
    ),
    "memory": (
        "memory that was read before it was written (empty, empty_like)",
        "np.zeros, torch.zeros, or write every element before reading one",
    ),
    "processors": (
        "the number of processors of the machine",
        "write numbers that matter into training_config.yaml: threads, training.loader_workers",
    ),
    "threads": (
        "another thread count, set by the project",
        "leave out torch.set_num_threads, set `threads` in training_config.yaml",
    ),
    "again": (
        "state at module level that the first training of a process changes",
        "make it anew in data() or model(), so that each training starts from the same",
    ),
    "resume": (
        "state of task or data set that a resumed training does not get back, such as a generator "
        "of its own",
        f"{_DRAW}; those go into every checkpoint. Other state: session.register(name, part)",
    ),
    "files": (
        "a file that one training writes into the project and the next one reads",
        "write it before training, as data, or make it anew in each training",
    ),
}
"""What each source is called, and what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A source, where the project uses it, and what it changed; blank when it was only seen."""

    source: str
    places: tuple[str, ...]
    effect: str = ""

    def text(self) -> str:
        """Cause first, then where, then what to write instead."""
        name, remedy = CAUSES[self.source]
        shown = [*self.places[:MOST_PLACES]]
        if len(self.places) > MOST_PLACES:
            shown.append(f"and {len(self.places) - MOST_PLACES} more places")
        # Which of several sets is the one cannot be seen from outside.
        if self.source == "hash" and len(shown) > 1:
            shown[0] = f"one of {shown[0]}"
        where = f", at {'; '.join(shown)}" if shown else ""
        return f"{name}{where}. Instead: {remedy}"


def differences(first: Found, second: Found, shifted: Found, *, threads: int) -> list[str]:
    """What is not the same in the rehearsals, one sentence each; empty when all is equal."""
    draws = ("draws", "worker_draws")
    found = [f"{what} in two processes" for what in draws if first[what] != second[what]]
    if text := _difference(first, second):
        found.append(f"in two processes {text}")
    return found + shifted_differences(first, shifted, threads=threads)


def shifted_differences(first: Found, shifted: Found, *, threads: int) -> list[str]:
    """What differs once hashes, clock, memory, listings and processors are others, or resumed."""
    if "failure" in shifted:
        return [f"the rehearsal fails there: {shifted['failure']}"]
    found = [text] if (text := _difference(first, shifted)) else []
    if text := _resumed(first, shifted):
        found.append(text)
    if text := _again(first, shifted):
        found.append(text)
    if shifted["threads"] != threads:
        found.append(f"torch computes with {shifted['threads']} threads instead of {threads}")
    return found


def explain(
    first: Found,
    shifted: Found,
    found: Sequence[str],
    run: Run,
    *,
    threads: int,
    written: Iterable[str] = (),
) -> dict[str, Any]:
    """Try the sources one by one by `run`, and say which of them change a digest.

    `found` are the differences to explain; `written` the files of the project that were written
    since the rehearsals began.
    """
    still = dict.fromkeys(SOURCES, 0)
    # Where the shifted rehearsal is like the first, only what it does not shift can matter.
    is_shifted = "failure" in shifted or bool(_unlike(first, shifted))
    trials = [Trial(name="still", worlds=still), Trial(name="repeated", worlds=still)]
    if is_shifted:
        trials.append(Trial(name="hash", worlds=still, other_hashes=True))
    base, repeated, *hashed = run(trials)
    if "failure" in base:
        return _explained(found, [], [], f"held still, it fails: {base['failure']}")
    seen = [Sighting(**entry) for entry in base["seen"]]
    if text := _unlike(base, repeated):
        why = (
            f"with clock, entropy, hashes and memory held still, two trainings still differ: {text}"
        )
        return _explained(found, [], _seen(seen, written), why)
    kinds = {entry.kind for entry in seen}
    alone = [name for name in SOURCES if name in kinds and (is_shifted or name not in SHIFTED)]
    others = run([Trial(name=name, worlds={**still, name: 1}) for name in alone])
    tried = {**dict(zip(alone, others, strict=True)), **dict(zip(["hash"], hashed, strict=False))}
    causes = [
        Suspect(source=source, places=_places(seen, source), effect=text)
        for source, other in tried.items()
        if (text := _unlike(base, other)) and not (source == "memory" and "failure" in other)
    ]
    # Clock and entropy go on from training to training: where they matter, no second one is alike.
    if not {"clock", "entropy"}.intersection(cause.source for cause in causes):
        causes += _kept_state(base, seen)
    if base["threads"] != threads:
        effect = f"torch computes with {base['threads']} threads instead of {threads}"
        causes.append(Suspect(source="threads", places=_places(seen, "threads"), effect=effect))
    if not causes and (text := _difference(first, base)) and (places := _files(seen, written)):
        causes = [Suspect(source="files", places=places, effect=text)]
    return _explained(found, causes, [] if causes else _seen(seen, written))


def causes_text(explained: Mapping[str, Any], found: Sequence[str]) -> str:
    """The causes in the words of a failing check; blank for an explanation of other differences."""
    if explained.get("about") != list(found):
        return ""
    if causes := [_suspect(entry).text() for entry in explained["causes"]]:
        return "cause: " + " / ".join(causes)
    seen = " / ".join(_suspect(entry).text() for entry in explained["seen"])
    why = explained["why_not"] or "no source that was tried changes a digest"
    return f"cause not shown: {why}" + (f". Seen there: {seen}" if seen else "")


def _suspect(entry: Mapping[str, Any]) -> Suspect:
    return Suspect(**{**entry, "places": tuple(entry["places"])})


def _explained(
    found: Sequence[str], causes: list[Suspect], seen: list[Suspect], why_not: str = ""
) -> dict[str, Any]:
    return {
        "about": list(found),
        "causes": [asdict(entry) for entry in causes],
        "seen": [asdict(entry) for entry in seen],
        "why_not": why_not,
    }


def _kept_state(base: Found, seen: Sequence[Sighting]) -> list[Suspect]:
    """What a second training in the process shows, or one that is resumed."""
    # What a second training finds changed, a resumed one does as well: that is no second cause.
    for source, effect in (("again", _again(base, base)), ("resume", _resumed(base, base))):
        if effect:
            return [Suspect(source=source, places=_places(seen, source), effect=effect)]
    return []


def _places(seen: Iterable[Sighting], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.text() for entry in seen if entry.kind == kind))


def _files(seen: Iterable[Sighting], written: Iterable[str]) -> tuple[str, ...]:
    """The written files, each with the line that opens it where that was seen."""
    places = []
    for name in written:
        lines = [entry.text() for entry in seen if entry.kind == "file" and entry.about == name]
        places += [f"{name}, opened by {line}" for line in lines] or [name]
    return tuple(dict.fromkeys(places))


def _seen(seen: Sequence[Sighting], written: Iterable[str]) -> list[Suspect]:
    kinds = ("entropy", "clock", "listing", "memory", "processors", "threads", "again", "resume")
    found = [
        Suspect(source=kind, places=places) for kind in kinds if (places := _places(seen, kind))
    ]
    if places := _files(seen, written):
        found.insert(0, Suspect(source="files", places=places))
    return found


def _unlike(base: Found, other: Found) -> str:
    """The difference of two trials; blank when there is none."""
    if "failure" in other:
        return f"it fails: {other['failure']}"
    if text := _difference(base, other):
        return text
    threads = [found.get("threads", other["threads"]) for found in (base, other)]
    if threads[0] != threads[1]:
        return f"torch computes with {threads[1]} threads instead of {threads[0]}"
    return ""


def _difference(one: Found, other: Found) -> str:
    """The first difference of the steps, else of the loaders' batches; blank for none."""
    if divergence := rehearsals_divergence(dict(one), dict(other)):
        return divergence.text()
    for workers, batches in one["loaders"].items():
        if other["loaders"].get(workers) != batches:
            return f"batches with {workers} loader workers differ"
    return ""


def _resumed(first: Found, shifted: Found) -> str:
    """The first difference behind the checkpoint that was resumed from; blank for none."""
    resumed = shifted["resumed"]
    # A run that differs on its own says nothing about resuming.
    if resumed is None or _difference(first, shifted):
        return ""
    start = resumed["from"]
    parts = [
        {"steps": [{part: step[part] for part in RESUMED_PARTS} for step in steps]}
        for steps in (first["steps"][start:], resumed["steps"])
    ]
    divergence = rehearsals_divergence(parts[0], parts[1])
    if divergence is None:
        return ""
    return f"resumed behind step {start - 1}, {divergence.part} of step {start + divergence.step}"


def _again(first: Found, shifted: Found) -> str:
    """The first difference of a second training in the same process; blank for none."""
    again = shifted["again"]
    if _difference(first, shifted):
        return ""
    steps = first["steps"][: again["to"]]
    divergence = rehearsals_divergence({"steps": steps}, {"steps": again["steps"]})
    return f"trained again in one process, {divergence.text()}" if divergence else ""
