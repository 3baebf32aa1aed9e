"""`model_card.md`: a card as the Hugging Face hub reads it, from measured values and words."""

import math
import re
from typing import Any

import yaml

from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.documents.markdown import Document
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.training.results import calibration_text, scores_table, weakest_part
from pytest_mltrainer.training.run import TrainingRun

SECTIONS = (
    "Purpose",
    "Users",
    "Limitations",
    "Training data",
    "Training",
    "Evaluation",
    "Environmental impact",
    "How to use",
    "Contacts",
)
_FRONT_MATTER = re.compile(r"\A---\n(.*?)^---\n", re.MULTILINE | re.DOTALL)


def model_card(run: TrainingRun, words: Words) -> str:
    """The card with its front matter."""
    front = yaml.safe_dump(front_matter(run), sort_keys=True, allow_unicode=True)
    return f"---\n{front}---\n\n{_body(run, words).text()}"


def front_matter(run: TrainingRun) -> dict[str, Any]:
    """What the hub indexes: library, tags, metrics, and results on the test set."""
    test = run.evaluation.test
    scores = [
        {"type": metric, "value": float(number(float(score))), "name": metric}
        for metric, score in sorted(test.scores.items())
        if math.isfinite(float(score))
    ]
    name = type(run.task).__name__
    return {
        "library_name": "pytorch",
        "tags": ["pytest-mltrainer", run.task.kind, *run.config.export.formats],
        "metrics": [score["type"] for score in scores],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": run.task.kind},
                        "dataset": {"type": name, "name": name, "split": "test"},
                        "metrics": scores,
                    }
                ],
            }
        ],
    }


def training_table(document: Document, run: TrainingRun) -> None:
    """How the model was trained, in numbers."""
    training = run.config.training
    document.table(
        ["setting", "value"],
        [
            ["epochs done", len(run.telemetry.epochs)],
            ["best epoch", run.best_logged_epoch()],
            ["batch size", training.batch_size],
            ["optimizer", training.optimizer],
            ["learning rate", training.learning_rate],
            ["seed", run.config.seed],
            ["parameters", sum(value.numel() for value in run.checkpoint("best").model.values())],
        ],
    )


def front_matter_problems(card: str) -> list[str]:
    """Why the hub would refuse the front matter, by its specification; empty when it would not."""
    found = _FRONT_MATTER.match(card)
    if found is None:
        return ["there is no front matter between two lines ---"]
    try:
        values = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"not readable as YAML: {' '.join(str(error).split())[:200]}"]
    if not isinstance(values, dict):
        return [f"a {type(values).__name__} instead of keys and values"]
    problems = [
        f"{key}: wanted a list of texts"
        for key in ("tags", "metrics")
        if not _texts(values.get(key))
    ]
    if not isinstance(values.get("library_name"), str):
        problems.append("library_name: wanted a text")
    return problems + _index_problems(values.get("model-index"))


def body_of(card: str) -> str:
    """The card without its front matter."""
    return _FRONT_MATTER.sub("", card, count=1)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _index_problems(index: Any) -> list[str]:
    try:
        for model in index:
            if not isinstance(model["name"], str):
                return ["model-index: a name that is no text"]
            for result in model["results"]:
                named = result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"]
                if not all(isinstance(name, str) for name in named):
                    return ["model-index: a task or data set without a type and a name"]
                for metric in result["metrics"]:
                    if not isinstance(metric["type"], str) or not isinstance(
                        metric["value"], int | float
                    ):
                        return ["model-index: a metric without a type and a number"]
    except (KeyError, TypeError) as error:
        return [f"model-index: not as the hub wants it ({error!r})"]
    return []


def _body(run: TrainingRun, words: Words) -> Document:
    document = Document(f"Model card of {type(run.task).__name__}")
    document.section("Purpose").quote(words.quote("purpose"))
    document.section("Users").quote(words.quote("users"))
    document.section("Limitations").quote(words.quote("limitations"))
    document.paragraph("Measured on the test set. ", weakest_part(run))
    splits = run.planned("splits.json")["splits"]
    document.section("Training data").table(
        ["split", "samples", "sha256"],
        [[name, split["n"], split["digest"][:16]] for name, split in splits.items()],
    )
    training_table(document.section("Training"), run)
    document.section("Evaluation").paragraph("On the test set, opened once by this model:")
    scores_table(document, run.evaluation.test)
    document.paragraph(calibration_text(run))
    document.section("Environmental impact").paragraph(
        "Not applicable: the energy of the training was not measured."
    )
    document.section("How to use").paragraph(
        "As the deployment guide says; alarms are described in the monitoring guide."
    )
    document.section("Contacts").quote(words.quote("contacts"))
    return document
