"""Finalization: train the final model, open the test set once, export, write the results."""

from collections.abc import Iterable
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far, train

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.ledger import FINAL_TRAINING, record, record_opening
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.export.format import exporters
from pytest_mltrainer.export.served import FOLDER, MODEL_MANIFEST
from pytest_mltrainer.release.documents import final_documents
from pytest_mltrainer.release.final_model import write_final_model
from pytest_mltrainer.release.rivals import enter_openings
from pytest_mltrainer.release.service import SERVICE_FILES, write_service
from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
from pytest_mltrainer.training.results import curves_plot, error_plot
from pytest_mltrainer.training.run import TrainingRun


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of finalization and write its artifacts."""
    final = PhaseWork(request)
    final.do("train", lambda: _train(final))
    run = run_so_far(final)
    final.do("evaluate", lambda: _evaluate(final, run))
    final.do("export", lambda: _export(final, run))
    final.do("service", lambda: _service(final, run))
    final.do("documents", lambda: _documents(final, run))
    return final.finish()


def _train(final: PhaseWork) -> Iterable[str]:
    """Train, entered in the ledger first: how often somebody tried is part of the result."""
    if not final.request.rank and not (final.output / "checkpoints" / "last.pt").exists():
        record(final.run, FINAL_TRAINING, seed=final.config.for_phase(final.phase).seed)
    return train(final)


def _evaluate(final: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """Predict validation and test by the best checkpoint; the opening is in the ledger first."""
    final.diagnose(gather_evidence(run, evaluated=run.can_be_evaluated))
    if run.can_be_evaluated and not run.is_broken:
        model = sha256_file(final.output / "checkpoints" / "best.pt")
        record_opening(final.run, phase=final.phase, model=model)
        for split in (run.evaluation.validation, run.evaluation.test):
            split.predictions.save(final.output / f"predictions/{split.name}.npz")
    return ["predictions/*.npz", "diagnoses.json"]


def _export(final: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """The final model's folder; what cannot be exported is written down for the gate to judge."""
    if not run.has("predictions/test.npz"):
        return []
    manager = plugin_manager(final.project)
    (final.output / FOLDER).mkdir(exist_ok=True)
    model = run.model(run.checkpoint("best")).cpu()
    try:
        write_final_model(
            final.output / FOLDER,
            task=run.task,
            model=model,
            inputs=run.task.example_input(run.splits),
            datasets=(run.splits.train, run.splits.validation),
            formats=run.config.export.formats,
            known=exporters(offered(manager, "mltrainer_exporters")),
            metric=run.metric,
            checkpoint=sha256_file(final.output / "checkpoints" / "best.pt"),
        )
    except UserError as error:
        files.write_json(final.output / "export_error.json", {"error": str(error)})
    return [f"{FOLDER}/*", "export_error.json"]


def _service(final: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """What a deployment needs beside the exports, where there are any."""
    if run.has(f"{FOLDER}/{MODEL_MANIFEST}"):
        write_service(run, final.output)
    return [*SERVICE_FILES, "monitoring/*.json"]


def _documents(final: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """Results, guides, model card and report with their plots."""
    pictures = curves_plot(run)
    documents: list[str] = []
    if run.has("predictions/test.npz"):
        # Before the report counts them: the gate compares with other models on the test set.
        enter_openings(run)
        pictures |= error_plot(run)
        for name, write in final_documents(run).items():
            files.write_text(final.output / name, write())
            documents.append(name)
    for name, picture in pictures.items():
        files.write_bytes(final.output / name, picture)
    return [*documents, "plots/*.svg"]
