"""The measured tables of the technical documentation, each from the artifact that holds it."""

from typing import Any

from pytest_mltrainer.core.config import Limits, Objective
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.documents.markdown import Document, Value, code
from pytest_mltrainer.evaluation.confusion import part_recalls
from pytest_mltrainer.evaluation.intervals import measure
from pytest_mltrainer.export.served import FOLDER, MODEL_MANIFEST
from pytest_mltrainer.export.signature import size_text
from pytest_mltrainer.release.final_model import short_name
from pytest_mltrainer.release.rivals import rows_of, slices_of_test
from pytest_mltrainer.release.sbom import TOOL
from pytest_mltrainer.release.service import BILL, PREPROCESSING, RULES
from pytest_mltrainer.training.results import PART_NAMES
from pytest_mltrainer.training.run import TrainingRun

REQUIREMENTS = {
    "accuracy (Article 15(1) to (3))": (
        "test_evaluated", "target_met", "val_test_gap", "confusion_analysed", "not_inferior",
    ),
    "robustness (Article 15(4))": (
        "exported", "export_parity", "inference_tested", "monitoring_guide", "clean_room_serve",
    ),
    "cybersecurity (Article 15(5))": ("no_critical_issues", "exported", "chain_of_custody"),
    "reproducible development": (
        "last_checkpoint_resumes", "reproduction_runs", "environment_snapshot",
    ),
    "documentation (Articles 11 and 13)": (
        "test_results", "model_card", "deployment_guide", "monitoring_guide",
    ),
    "responsible persons": (
        "code_reviewed", "technical_approval", "product_approval", "compliance_approval",
    ),
}  # fmt: skip
"""Checks of the finalization gate by what they give evidence of."""


def checkpoint_of(run: TrainingRun) -> str:
    """The sha256 of the checkpoint that the final model is."""
    return sha256_file(run.folder.artifact("checkpoints/best.pt"))


def identity(document: Document, run: TrainingRun) -> None:
    """Name, version, digests."""
    document.table(
        ["model", "version", "checkpoint sha256"],
        [
            [
                type(run.task).__name__,
                code(short_name(run.folder.artifact(FOLDER))),
                code(checkpoint_of(run)),
            ]
        ],
    )


def delivery(document: Document, run: TrainingRun) -> None:
    """Forms of delivery, and the machine that trained."""
    environment = run.planned("environment.json")
    document.table(
        ["fact", "value"],
        [
            ["files", ", ".join(sorted(run.json(f"{FOLDER}/{MODEL_MANIFEST}")["files"]))],
            ["service", f"{FOLDER}/serve.py, a command that reads and writes JSON"],
            ["processor", environment["cpu"]],
            ["device", environment["device"]],
            ["operating system", environment["system"]],
        ],
    )


def software(document: Document, run: TrainingRun) -> None:
    """What serves, and what trained."""
    environment = run.planned("environment.json")
    packages = environment["packages"]
    rows: list[list[Value]] = [
        ["serving", part["name"], code(part["version"])] for part in run.json(BILL)["components"]
    ]
    rows += [
        ["training", name, code(packages[name])] for name in ("torch", TOOL) if name in packages
    ]
    rows.append(["both", "Python", code(environment["python"])])
    document.table(["for", "software", "version"], rows)


def objective(document: Document, run: TrainingRun) -> None:
    """The objective that planning froze, and what the test set says."""
    frozen = run.planned("objective.json")
    document.table(
        ["metric", "better", "target", "test set"],
        [
            [
                frozen["metric"],
                "higher" if frozen["direction"] == "maximize" else "lower",
                frozen["target"],
                run.evaluation.test.objective,
            ]
        ],
    )


def architecture(document: Document, run: TrainingRun) -> None:
    """Inputs and outputs of the export, and the parts of the model with their parameters."""
    manifest = run.json(f"{FOLDER}/{MODEL_MANIFEST}")
    document.table(
        ["side", "name", "dtype", "shape"],
        [
            [side, spec["name"], spec["dtype"], _shape(spec["shape"])]
            for side in ("inputs", "outputs")
            for spec in manifest[side]
        ],
    )
    model = run.model(run.checkpoint("best"))
    counts = {
        (name or "the model itself", type(part).__name__): sum(
            parameter.numel() for parameter in part.parameters()
        )
        for name, part in [("", model), *model.named_children()]
    }
    document.table(
        ["part", "kind", "parameters"], [[name, kind, n] for (name, kind), n in counts.items()]
    )


def resources(document: Document, run: TrainingRun) -> None:
    """What the final training used, as it was recorded."""
    steps = run.telemetry.steps
    rows: list[list[Value]] = [
        ["updates of the weights", len(steps)],
        ["seconds in them", float(steps["step_s"].sum())],
        ["processes that trained together", run.config.launch.processes * run.config.launch.nodes],
    ]
    rows += [
        [f"peak memory, {name.removesuffix('_mb')} (MB)", float(value)]
        for name, value in sorted(run.json("resources.json").items())
        if name.endswith("_mb")
    ]
    document.table(["resource", "value"], rows)


def data(document: Document, run: TrainingRun) -> None:
    """Splits with their digests, classes in each, and what two splits share."""
    planned = run.planned("splits.json")
    document.table(
        ["split", "samples", "sha256"],
        [[name, split["n"], code(split["digest"])] for name, split in planned["splits"].items()],
    )
    document.table(
        ["splits", "samples with equal content"],
        [[pair, shared["content"]] for pair, shared in planned["overlap"].items()],
    )
    if classes := run.planned("data_profile.json")["targets"].get("classes"):
        names = list(planned["splits"])
        document.table(
            ["class", *names],
            [[name, *(found.get(split, 0) for split in names)] for name, found in classes.items()],
        )


def limits(document: Document, run: TrainingRun) -> None:
    """Margins and limits as planning recorded them, with what each is of."""
    planned = run.planned("config_resolved.json")
    meanings = {name: field.description or "" for name, field in Limits.model_fields.items()}
    wanted = planned["objective"]
    rows: list[list[Value]] = [
        [code("objective.margin"), wanted["margin"], Objective.model_fields["margin"].description]
    ]
    rows += [
        [code(f"objective.guards.{name}"), value, f"How much worse {name} may get."]
        for name, value in sorted(wanted["guards"].items())
    ]
    rows += [
        [code(f"limits.{name}"), value, meanings.get(name, "")]
        for name, value in sorted(planned["limits"].items())
    ]
    document.table(["threshold", "value", "of"], rows)


def requirements(document: Document) -> None:
    """Which checks give evidence of what."""
    document.table(
        ["requirement", "checks of the finalization gate"],
        [[name, ", ".join(checks)] for name, checks in REQUIREMENTS.items()],
    )


def slices(document: Document, run: TrainingRun) -> bool:
    """The objective's metric in each slice that the task names; False where it names none."""
    found = slices_of_test(run)
    if not found:
        return False
    every = run.evaluation.test.predictions
    document.table(
        ["group", "samples", run.metric.name],
        [
            [key, len(rows), measure(run.metric, rows_of(every, rows))]
            for key, rows in found.items()
        ],
    )
    return True


def parts(document: Document, run: TrainingRun) -> None:
    """The recall of each class, label or token; nothing for other kinds."""
    recalls: dict[int, Measurement] = part_recalls(run.evaluation.test.predictions, run.task.kind)
    if recalls:
        document.table(
            [PART_NAMES[run.task.kind], "recall"],
            [[str(name), recall] for name, recall in recalls.items()],
        )


def inputs(document: Document, run: TrainingRun) -> None:
    """Dtype, shape and range of each input over the training split."""
    stored = run.json(PREPROCESSING)
    document.table(
        ["input", "dtype", "shape", "least", "largest"],
        [
            [code(p["name"]), p["dtype"], _shape(p["shape"]), p["minimum"], p["maximum"]]
            for p in stored["inputs"]
        ],
    )
    document.bullets(stored["duties"])


def alarms(document: Document, run: TrainingRun) -> bool:
    """The rules of the monitor; False where none were calibrated."""
    if not run.has(RULES):
        return False
    document.table(
        ["rule", "watches", "threshold in scales"],
        [
            [code(name), rule["meaning"], float(rule["threshold"])]
            for name, rule in sorted(run.json(RULES)["rules"].items())
        ],
    )
    return True


def source(document: Document, run: TrainingRun) -> None:
    """The commit that trained, or that there is none."""
    found: dict[str, Any] = run.planned("source.json")
    commit = found.get("commit")
    said = code(str(commit)) if commit else "none: the project is in no repository of git"
    document.paragraph("Commit that trained: ", said, ".")


def _shape(shape: list[int]) -> str:
    return " x ".join(size_text(axis, size) for axis, size in enumerate(shape))
