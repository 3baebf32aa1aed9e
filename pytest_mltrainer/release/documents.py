"""The documents of a final model by name: each written by the worker, and anew by the gate."""

from collections.abc import Callable, Mapping

from pytest_mltrainer.documents.sectioned import TechnicalWords
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.export.served import FOLDER, MODEL_MANIFEST
from pytest_mltrainer.release.deployment_guide import MODEL_CARD, deployment_guide
from pytest_mltrainer.release.final_report import final_report
from pytest_mltrainer.release.model_card import model_card
from pytest_mltrainer.release.monitoring_guide import monitoring_guide, proof_of
from pytest_mltrainer.release.service import RULES
from pytest_mltrainer.release.technical_documentation import (
    TECHNICAL_DOCUMENTATION,
    technical_documentation,
)
from pytest_mltrainer.training.results import final_results
from pytest_mltrainer.training.run import TrainingRun

TEST_RESULTS = "test_results.md"
CARD = f"{FOLDER}/{MODEL_CARD}"
DEPLOYMENT_GUIDE = "deployment_guide.md"
MONITORING_GUIDE = "monitoring_guide.md"
FINAL_REPORT = "final_report.md"


def final_documents(run: TrainingRun) -> Mapping[str, Callable[[], str]]:
    """How each document is written. Those that describe what could not be made are left out."""
    words = Words.read(run.project.root)
    writers: dict[str, Callable[[], str]] = {
        TEST_RESULTS: lambda: final_results(run),
        CARD: lambda: model_card(run, words),
        FINAL_REPORT: lambda: final_report(run, words),
    }
    if run.has(f"{FOLDER}/{MODEL_MANIFEST}"):
        writers[DEPLOYMENT_GUIDE] = lambda: deployment_guide(run, words)
        if run.config.documents.profile == "eu-ai-act":
            technical = TechnicalWords.read(run.project.root)
            writers[TECHNICAL_DOCUMENTATION] = lambda: technical_documentation(
                run, words, technical
            )
    if run.has(RULES):
        writers[MONITORING_GUIDE] = lambda: monitoring_guide(run, words, proof_of(run))
    return writers
