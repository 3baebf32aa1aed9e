"""`technical_documentation.md`: the points of Annex IV of Regulation (EU) 2024/1689, in its order.

Written where `documents.profile` is `eu-ai-act`. Under each point stands what was measured, what
the provider wrote in `docs/model/`, or that this tool has nothing to say. It is a structure for the
provider's own file and no legal advice: whether the Regulation applies or is met, it does not know.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pytest_mltrainer.documents.markdown import Document, Value, code
from pytest_mltrainer.documents.sectioned import TECHNICAL_WORDS, TechnicalWords
from pytest_mltrainer.documents.words import Words, words_file
from pytest_mltrainer.release import technical_tables as tables
from pytest_mltrainer.release.final_report import disclosed, way
from pytest_mltrainer.release.model_card import training_table
from pytest_mltrainer.training.results import calibration_text, scores_table, weakest_part
from pytest_mltrainer.training.run import TrainingRun

TECHNICAL_DOCUMENTATION = "technical_documentation.md"
SECTIONS = (
    "1. General description of the AI system",
    "2. Elements of the AI system and process of its development",
    "3. Monitoring, functioning and control",
    "4. Appropriateness of the performance metrics",
    "5. Risk management system (Article 9)",
    "6. Changes through the lifecycle",
    "7. Standards applied",
    "8. EU declaration of conformity (Article 47)",
    "9. Post-market monitoring (Article 72)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The document as it grows, with what it is written from."""

    document: Document
    run: TrainingRun
    words: Words
    technical: TechnicalWords

    def point(self, heading: str) -> Document:
        """Start a lettered point."""
        return self.document.section(heading, level=3)

    def stated(self, topic: str) -> None:
        """What the provider wrote of a topic."""
        self.document.paragraph("Stated by the provider (", code(TECHNICAL_WORDS), f", {topic}):")
        self.document.quote(self.technical.quote(topic))

    def quoted(self, topic: str) -> None:
        """What the provider wrote for all documents."""
        self.document.paragraph("Stated by the provider (", code(words_file(topic)), "):")
        self.document.quote(self.words.quote(topic))

    def measured(self, *parts: Value) -> None:
        """What was measured or recorded, or where it stands."""
        self.document.paragraph("Measured: ", *parts)

    def see(self, *parts: Value) -> None:
        """Where more stands."""
        self.document.paragraph("See: ", *parts)

    def not_covered(self, what: str) -> None:
        """What neither measurement nor the asked-for words give."""
        self.document.paragraph(f"Not covered by this tool: {what}")


def technical_documentation(run: TrainingRun, words: Words, technical: TechnicalWords) -> str:
    """The documentation of a final model, written before its own gate has judged."""
    document = Document(f"Technical documentation of {type(run.task).__name__}")
    document.paragraph(
        "In the structure of Annex IV of Regulation (EU) 2024/1689 (Artificial Intelligence Act), "
        "for the file that Article 11 asks of a provider of a high-risk AI system. It is no legal "
        "advice and no proof of conformity: whether the Regulation applies, and whether it is met, "
        "the provider judges."
    )
    document.bullets(
        [
            "Measured: computed from data, model and records. The gate computes it again, and its "
            "check test_results fails where this file says otherwise.",
            "Stated by the provider: words of people, quoted as they are. Nothing checks them but "
            "that they are there.",
            "Not covered by this tool: to be added by the provider, beside this file.",
        ]
    )
    file = _File(document=document, run=run, words=words, technical=technical)
    for heading, write in zip(SECTIONS, _POINTS, strict=True):
        document.section(heading)
        write(file)
    return document.text()


def _general(file: _File) -> None:
    file.point("1(a) Intended purpose, provider, version")
    file.quoted("purpose")
    file.stated("Provider and versions")
    tables.identity(file.document, file.run)
    file.point("1(b), (d), (e), (g) Surroundings, forms, hardware, user interface")
    file.stated("Surroundings")
    file.measured("the forms of delivery, and the machine that trained and tested.")
    tables.delivery(file.document, file.run)
    file.point("1(c) Versions of software")
    file.measured(
        "what serving needs, pinned; all of it with licences in ",
        code("final_model/sbom.cdx.json"),
        ". Another version is another release: the gate tests the pinned ones.",
    )
    tables.software(file.document, file.run)
    file.point("1(f) Product that the system is a component of")
    file.not_covered("photographs or illustrations of a product, its marking and inner layout.")
    file.point("1(h) Instructions for use")
    file.quoted("users")
    file.see(
        "commands and inputs in ", code("deployment_guide.md"), ", abilities and limits in ",
        code("final_model/model_card.md"), ", alarms in ", code("monitoring_guide.md"), ".",
    )  # fmt: skip


def _development(file: _File) -> None:
    run, document = file.run, file.document
    file.point("2(a) Methods and steps of the development")
    file.stated("Design")
    file.measured("the phases up to this model, each with the verdict of its gate.")
    document.table(["phase", "verdict", "checks", "decision"], way(run))
    file.point("2(b) Design specifications")
    file.measured("what the model was chosen by, and how it was trained.")
    tables.objective(document, run)
    training_table(document, run)
    file.point("2(c) Architecture and computational resources")
    file.measured("inputs, outputs and parts of the model, and what its training used.")
    tables.architecture(document, run)
    tables.resources(document, run)
    file.point("2(d) Data")
    file.stated("Data")
    file.measured("the splits by the digest of their content, and what two of them share.")
    tables.data(document, run)
    file.point("2(e) Human oversight (Articles 13 and 14)")
    file.stated("Human oversight")
    file.measured(f"how far outputs can be read as probabilities. {calibration_text(run)}")
    file.point("2(f) Pre-determined changes")
    file.stated("Pre-determined changes")
    _testing(file)
    file.point("2(h) Cybersecurity (Article 15(5))")
    file.stated("Cybersecurity")
    file.see(
        "the check no_critical_issues, which searches for secrets and reads results of scanners. "
        "The service loads no file with other bytes than ", code("final_model/model.json"),
        " names; weights are stored in a format that runs no code.",
    )  # fmt: skip
    file.not_covered("trials of data poisoning, model evasion or extraction.")


def _testing(file: _File) -> None:
    run, document = file.run, file.document
    file.point("2(g) Validation and testing (Article 15)")
    file.measured("metrics on the test set, which no earlier phase can read, with 95 % intervals.")
    scores_table(document, run.evaluation.test)
    file.measured("thresholds that planning recorded before anything was trained.")
    tables.limits(document, run)
    file.measured("what each requirement was judged by; outcomes stand in the verdict.")
    tables.requirements(document)
    file.measured(f"{run.metric.name} by group, for discriminatory impacts.")
    if not tables.slices(document, run):
        file.not_covered("a measure by group: the task names no slices (Task.slice_key).")
    file.stated("Groups of persons")
    file.see(
        "logs and reports of each phase, ", code("gate.xml"), ", ", code("report.html"), ", dated "
        "in ", code("judgements.jsonl"), ", bound to every artifact by ", code("verdict.json"),
        ". Signatures of the responsible persons, each with its date, lie in ",
        code(".mltrainer/approvals/"), "; ", code("pytest-mltrainer verify"), " checks them.",
    )  # fmt: skip


def _control(file: _File) -> None:
    run, document = file.run, file.document
    file.point("Capabilities and limitations in performance")
    file.quoted("limitations")
    file.measured(f"on the test set. {weakest_part(run)}")
    tables.parts(document, run)
    file.see("point 2(g) for groups of persons.")
    file.point("Foreseeable unintended outcomes and sources of risk")
    file.see("point 5.")
    file.point("Human oversight (Article 14)")
    file.see("point 2(e).")
    file.point("Specifications on input data")
    file.measured("what the training split held (", code("final_model/preprocessing.json"), ").")
    tables.inputs(document, run)
    file.point("Record-keeping (Article 12)")
    file.stated("Logging")
    file.see(
        code("final_model/monitor_metrics.py"), ", which counts windows checked and alarms by rule."
    )
    file.not_covered("a log of single requests: the service around the model has to write it.")


def _metrics(file: _File) -> None:
    file.stated("Metrics")
    file.measured("the metric that decides; all others, beside a trivial model, in point 2(g).")
    tables.objective(file.document, file.run)


def _risks(file: _File) -> None:
    file.stated("Risks")
    file.not_covered("an assessment of risks: it measures the model, not its use.")


def _changes(file: _File) -> None:
    file.stated("Changes")
    file.measured("what was tried up to this model's opening of the test set, and the source.")
    rows: list[list[Value]] = [
        [event, count] for event, count in disclosed(file.run, tables.checkpoint_of(file.run))
    ]
    file.document.table(["event", "times"], rows)
    tables.source(file.document, file.run)
    file.document.paragraph(
        "Releases are numbered, and listed by ", code("pytest-mltrainer releases"), "."
    )


def _standards(file: _File) -> None:
    file.stated("Standards")
    file.not_covered("conformity with any standard: it names none that it would implement.")


def _declaration(file: _File) -> None:
    file.stated("Declaration of conformity")


def _post_market(file: _File) -> None:
    file.stated("Post-market monitoring")
    file.measured("the rules by which the released monitor alarms; the proof of each is in ",
                  code("monitoring_guide.md"), ".")  # fmt: skip
    if not tables.alarms(file.document, file.run):
        file.not_covered("alarms: validation was too small to calibrate them.")
    file.document.paragraph("Who is called at an alarm:")
    file.document.quote(file.words.quote("contacts"))


_POINTS: tuple[Callable[[_File], None], ...] = (
    _general,
    _development,
    _control,
    _metrics,
    _risks,
    _changes,
    _standards,
    _declaration,
    _post_market,
)
