"""Findings as text and as HTML: text of users stays text, and nothing is left unsaid."""

import re
import subprocess
import sys
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_mltrainer
from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import Manifest, PhaseFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.evidence import Cause, Curve, Diagnosis, Recommendation, Symptom
from pytest_mltrainer.core.ranking import Findings
from pytest_mltrainer.core.verdict import Basis, CheckResult, Verdict
from pytest_mltrainer.reporting.findings import (
    RunFindings,
    findings_html,
    inline_curve,
    stored_findings,
)
from pytest_mltrainer.reporting.html import render_report

CURVE = Curve(
    title="gradient norm of 0.weight",
    x_label="step",
    y_label="gradient_norm",
    x=tuple(range(60)),
    y=(*(1.2**step for step in range(58)), *[float("inf")] * 2),
    mark=57,
    limit=100.0,
    log=True,
)


def diagnosis(name: str = "exploding_gradients", text: str = "The gradients grew.") -> Diagnosis:
    return Diagnosis(
        id=name,
        cause=Cause.GRADIENTS,
        summary=text,
        confidence=0.91,
        symptoms=(Symptom(what=text, measured=1234.5678, limit=100.0, unit=text),),
        where=text,
        details=(text,),
        recommendations=(
            Recommendation(
                instruction=text, patch={"training.learning_rate": 0.01}, predicted=(0.8, 0.9)
            ),
            Recommendation(instruction=text),
        ),
        curve=CURVE,
    )


def findings(*diagnoses: Diagnosis) -> RunFindings:
    return RunFindings(
        diagnoses=diagnoses,
        silent=("overfitting",),
        not_judged={"dead_relu": "no layers were recorded"},
        failed={"third_party": "ValueError: oops"},
        config={"training": {"learning_rate": 0.1}, "objective": {"metric": "accuracy"}},
    )


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_says_what_was_found_and_who_could_not_look() -> None:
    shown = str(findings(diagnosis(), diagnosis("lr_too_low")))
    assert "diagnosis: exploding_gradients (confidence 0.91)" in shown
    assert "training.learning_rate: 0.1 -> 0.01" in shown
    assert "lr_too_low (confidence 0.91)" in shown
    assert "saw nothing: overfitting" in shown
    assert "  dead_relu: no layers were recorded" in shown
    assert "could not look: third_party: ValueError: oops" in shown


def test_text_without_a_diagnosis_still_names_who_could_not_look() -> None:
    shown = str(findings())
    assert shown.startswith("diagnosis: none; 1 diagnostic saw nothing")
    assert "dead_relu: no layers were recorded" in shown


def test_html_shows_every_part() -> None:
    html = findings(diagnosis(), diagnosis("lr_too_low"))._repr_html_()
    page = Tags(html)
    assert page.open == []
    for part in (
        "exploding_gradients",
        "gradients, confidence 0.91",
        "1235",
        "100",
        "training.learning_rate: 0.1 -> 0.01",
        "expected accuracy 0.80 to 0.90",
        "lr_too_low",
        "Looked and saw nothing: overfitting.",
        "Not judged: 1 diagnostic",
        "no layers were recorded",
        "ValueError: oops",
        "pytest-mltrainer explain exploding_gradients",
    ):
        assert part in page.text
    assert page.tags.count("svg") == 2


def test_html_without_a_diagnosis() -> None:
    page = Tags(findings_html(findings()))
    assert "No diagnosis." in page.text
    assert "Looked and saw nothing: overfitting." in page.text
    assert "svg" not in page.tags


HOSTILE = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</style></svg><img src=x onerror=alert(1)>",
        "--><b onload='x'>",
        '" onmouseover="alert(1)',
        "{{ 7 * 7 }}",
        "]]>&lt;",
        "$\\frac{1}{0}$",
    ]
)


@settings(deadline=None)
@given(text=st.one_of(HOSTILE, st.text(min_size=1, max_size=40)))
def test_text_of_the_user_stays_text(text: str) -> None:
    known = Tags(findings_html(findings(replace(diagnosis(), curve=None))))
    page = Tags(
        findings_html(
            RunFindings(
                diagnoses=(replace(diagnosis(text=text), curve=None),),
                silent=("overfitting",),
                not_judged={"dead_relu": text},
                failed={"third_party": text},
                config={"training": {"learning_rate": 0.1}},
            )
        )
    )
    assert page.open == []
    assert page.tags == known.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in known.attributes}


def test_text_in_a_curve_is_drawn_not_written() -> None:
    text = "--><script>alert(1)</script>"
    svg = inline_curve(replace(CURVE, title=text, x_label=text, y_label=text))
    assert svg.startswith("<svg")
    assert "script" not in svg
    assert "<!--" not in svg
    assert Tags(svg).open == []


@pytest.mark.parametrize(
    "curve",
    [
        replace(CURVE, x=[], y=[]),
        replace(CURVE, y=[float("nan")] * 60, mark=float("nan"), limit=float("inf")),
        replace(CURVE, y=[-1.0] * 60, limit=-1.0),
        replace(CURVE, y=[0.0] + [1e300] * 59, log=False, limit=None, mark=None),
    ],
)
def test_a_curve_of_odd_values_is_drawn(curve: Curve) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert inline_curve(curve).startswith("<svg")


def test_curve_takes_the_colour_of_the_text_around_it() -> None:
    svg = inline_curve(CURVE)
    assert "currentColor" in svg
    assert not re.search(r"fill: ?#(ffffff|010203|000000)", svg)


def test_nothing_is_loaded_and_nothing_runs() -> None:
    page = Tags(findings_html(findings(diagnosis())))
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    links = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert all(value is not None and value.startswith("#") for value in links)


@pytest.fixture
def phase(tmp_path: Path) -> PhaseFolder:
    """A baseline whose diagnostics spoke, in a run folder with a planning."""
    config = Config.from_json(
        {
            "training": {"learning_rate": 0.1},
            "phases": {"baseline": {"training": {"learning_rate": 0.3}}},
        }
    )
    files.write_json(tmp_path / "planning" / "config_resolved.json", config.to_json())
    stored = findings(diagnosis()).to_json()
    files.write_json(tmp_path / "baseline" / "diagnoses.json", stored)
    return PhaseFolder(tmp_path / "baseline")


def report(folder: PhaseFolder, guidance: str = "") -> str:
    basis = Basis(artifacts={}, objective="", limits="", check_sources="", required=())
    verdict = Verdict(phase="baseline", outcome="FAIL", basis=basis, checks={})
    result = CheckResult(id="baseline/check", outcome="fail", reason="r", guidance=guidance)
    return render_report(folder, verdict, [result], None)


def test_stored_findings_know_the_old_values_of_their_phase(phase: PhaseFolder) -> None:
    found = stored_findings(phase)
    assert found is not None
    assert "training.learning_rate: 0.3 -> 0.01" in str(found)
    assert found.not_judged == {"dead_relu": "no layers were recorded"}


def test_findings_of_the_final_model_know_what_optimization_changed(phase: PhaseFolder) -> None:
    run = phase.path.parent
    for name, following, patch in (
        ("baseline", "diagnostics", {}),
        ("diagnostics", "optimization", {}),
        ("optimization", "finalization", {"training.learning_rate": 0.05}),
    ):
        decision = {"status": "decided", "next": following, "reason": "said so", "patch": patch}
        manifest = Manifest(phase=name, steps={}, decision=decision)
        files.write_json(run / name / "manifest.json", manifest.to_json())
    stored = files.read_json(phase.path / "diagnoses.json")
    files.write_json(run / "finalization" / "diagnoses.json", stored)
    assert "training.learning_rate: 0.05 -> 0.01" in str(
        stored_findings(PhaseFolder(run / "finalization"))
    )


def test_report_holds_the_diagnosis_once(phase: PhaseFolder) -> None:
    found = stored_findings(phase)
    assert found is not None
    from pytest_mltrainer.core.ranking import text

    page = Tags(report(phase, guidance=text(found, found.config)))
    assert page.text.count("exploding_gradients") == 2  # its heading and the command for more
    assert "no layers were recorded" in page.text
    assert "own advice" in Tags(report(phase, guidance="own advice")).text


def test_report_of_a_phase_without_diagnostics(tmp_path: Path) -> None:
    assert "Diagnosis" not in Tags(report(PhaseFolder(tmp_path / "planning"))).text


def test_report_with_damaged_findings_says_so(phase: PhaseFolder) -> None:
    files.write_json(phase.path / "diagnoses.json", {"diagnoses": 3})
    assert "The findings cannot be read" in Tags(report(phase)).text
    with pytest.raises(StorageError):
        stored_findings(phase)


def test_diagnose_reads_a_run_folder_and_a_phase(phase: PhaseFolder) -> None:
    for folder in (phase.path.parent, str(phase.path.parent)):
        assert pytest_mltrainer.diagnose(folder).diagnoses == (diagnosis(),)
    files.write_json(phase.path / "manifest.json", {})
    assert pytest_mltrainer.diagnose(phase.path).diagnoses == (diagnosis(),)


@pytest.mark.parametrize("what", ["nowhere", 3])
def test_diagnose_says_what_it_wants(what: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted"):
        pytest_mltrainer.diagnose(tmp_path / what if isinstance(what, str) else what)  # type: ignore[arg-type]


def test_diagnose_an_observed_folder_later(tmp_path: Path) -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest_mltrainer.observe(model, folder=tmp_path, kind="regression") as run:
        for step in range(6):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 3)).square().mean()
            (loss / 0 if step == 4 else loss).backward()
            optimizer.step()
    here, later = pytest_mltrainer.diagnose(run), pytest_mltrainer.diagnose(tmp_path)
    assert str(here) == str(later)
    assert here.primary is not None
    assert (here.primary.id, "step 4" in here.primary.where) == ("nan_loss", True)
    assert isinstance(here, Findings)


def explain(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest_mltrainer.cli", "explain", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_explain_in_a_pipe_is_the_page_as_it_is() -> None:
    done = explain("nan_loss")
    assert done.returncode == 0
    assert done.stdout.startswith("# ")
    assert "\n## In short\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_explain_an_unknown_diagnostic() -> None:
    done = explain("nan_los")
    assert done.returncode == 4
    assert done.stdout == ""
    assert "Did you mean 'nan_loss'?" in done.stderr


def test_explain_in_a_terminal_is_rendered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_mltrainer.cli import main

    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["explain", "nan_loss"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    assert "## In short" not in shown
