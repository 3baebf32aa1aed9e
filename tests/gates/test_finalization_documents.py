"""The documents of a release: a run whose documents pass, and faults that their checks find."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from planted import DOCUMENTS, Copied, Fault, as_parameters, edit, edit_task, evaluate_again
from support import inside, judge_check, phase_folder, reseal, run_pytest

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import CheckResult
from pytest_mltrainer.release.documents import MONITORING_GUIDE, final_documents
from pytest_mltrainer.release.sbom import serial_number
from pytest_mltrainer.release.service import SERVICE_FILES
from pytest_mltrainer.training.run import TrainingRun


def folder(project: Path) -> Path:
    return phase_folder(project, "finalization")


def judged(project: Path, check: str) -> CheckResult:
    reseal(project, "finalization")
    return judge_check(f"finalization/{check}", project)


def write_again(project: Path, name: str) -> None:
    """Write a document for the files as they are now, so that only their faults are left."""
    with inside(project):
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "finalization")
        (folder(project) / name).write_text(final_documents(run)[name]())


def digit_of_a_digest_changed(project: Path) -> None:
    path = folder(project) / "deployment_guide.md"
    digest = re.search(r"`model\.onnx` \| `([0-9a-f]{64})`", path.read_text())
    assert digest
    edit(path, digest[1], digest[1][::-1])


def export_changed_behind_the_guide(project: Path) -> None:
    path = folder(project) / "final_model/preprocessing.json"
    path.write_text(path.read_text() + " ")


def golden_request_that_nobody_answers(project: Path) -> None:
    path = folder(project) / "final_model/golden_requests.json"
    golden = json.loads(path.read_text())
    golden["requests"][3]["outputs"][0][0] += 1.0
    path.write_text(json.dumps(golden))
    write_again(project, "deployment_guide.md")


def service_that_does_not_start(project: Path) -> None:
    path = folder(project) / "final_model/serve.py"
    path.write_text(f"import no_such_module\n{path.read_text()}")
    write_again(project, "deployment_guide.md")


def placeholder_left_in_the_contacts(project: Path) -> None:
    (project / "docs/model/contacts.md").write_text("# Contacts\n\n<Who owns the model?>\n")


def purpose_missing(project: Path) -> None:
    (project / "docs/model/purpose.md").unlink()


def words_edited_behind_the_card(project: Path) -> None:
    (project / "docs/model/limitations.md").write_text("# Limitations\n\nThere are none.\n")


def score_edited(project: Path) -> None:
    edit(
        folder(project) / "test_results.md",
        "| balanced_accuracy | 0.9",
        "| balanced_accuracy | 0.8",
    )


def interval_edited(project: Path) -> None:
    path = folder(project) / "test_results.md"
    path.write_text(re.sub(r"interval 0\.\d", "interval 0.8", path.read_text(), count=1))


def path_edited_in_the_report(project: Path) -> None:
    edit(folder(project) / "final_report.md", "| planning | PASS |", "| planning | FAIL |")


def opening_left_out_of_the_report(project: Path) -> None:
    edit(folder(project) / "final_report.md", "| test set opened | 1 |", "| test set opened | 0 |")


def section_of_the_results_renamed(project: Path) -> None:
    edit(folder(project) / "test_results.md", "## Calibration", "## Confidence")


def front_matter_without_an_end(project: Path) -> None:
    path = folder(project) / "final_model/model_card.md"
    path.write_text(path.read_text().replace("\n---\n", "\n", 1))


def tags_that_are_no_list(project: Path) -> None:
    path = folder(project) / "final_model/model_card.md"
    path.write_text(re.sub(r"^tags:\n(- .*\n)+", "tags: 3\n", path.read_text(), flags=re.M))


def another_class_named_weakest(project: Path) -> None:
    edit(folder(project) / "final_model/model_card.md", "weakest class is", "weakest class is not")


def threshold_near_nothing(project: Path) -> None:
    with_rules(project, lambda rules: rules["rules"]["input_drift"].update(threshold=0.05))


def threshold_of_drift_out_of_reach(project: Path) -> None:
    with_rules(project, lambda rules: rules["rules"]["input_drift"].update(threshold=9.0))


def threshold_of_labels_out_of_reach(project: Path) -> None:
    with_rules(project, lambda rules: rules["rules"]["label_shift"].update(threshold=9.0))


def threshold_of_nan_out_of_reach(project: Path) -> None:
    with_rules(project, lambda rules: rules["rules"]["not_finite"].update(threshold=9.0))


def slow_means_an_hour(project: Path) -> None:
    with_rules(project, lambda rules: rules.update(slow_ms=3.6e6))


def threshold_a_little_higher(project: Path) -> None:
    def change(rules: dict[str, dict[str, dict[str, float]]]) -> None:
        rules["rules"]["confidence"]["threshold"] *= 1.01

    with_rules(project, change)


def monitor_that_needs_torch(project: Path) -> None:
    path = folder(project) / "final_model/monitor.py"
    path.write_text(path.read_text().replace("import json\n", "import json\nimport torch\n", 1))


def monitor_that_sleeps(project: Path) -> None:
    edit(
        folder(project) / "final_model/monitor.py",
        "return [alarm for alarm in found",
        "return [][:0] or [alarm for alarm in () ",
    )


def version_edited_in_the_bill(project: Path) -> None:
    with_bill(project, lambda libraries: libraries["numpy"].update(version="0.0.1"))


def licence_edited_in_the_bill(project: Path) -> None:
    with_bill(project, lambda libraries: libraries["onnxruntime"].update(licenses=[]))


def package_left_out_of_the_bill(project: Path) -> None:
    with_bill(project, lambda libraries: libraries.pop("protobuf"))


def metric_edited_in_the_bill(project: Path) -> None:
    edit(folder(project) / "final_model/sbom.cdx.json", '"value": "0.9692"', '"value": "0.9992"')
    write_again(project, "deployment_guide.md")


def weights_of_another_model_in_the_bill(project: Path) -> None:
    path = folder(project) / "final_model/sbom.cdx.json"
    bill = json.loads(path.read_text())
    bill["metadata"]["component"]["hashes"][0]["content"] = "0" * 64
    path.write_text(json.dumps(bill))
    write_again(project, "deployment_guide.md")


def with_bill(project: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    """Change the packages of the bill, and number it as if it had been made so."""
    path = folder(project) / "final_model/sbom.cdx.json"
    bill = json.loads(path.read_text())
    libraries = {library["name"]: library for library in bill["components"]}
    change(libraries)
    bill["components"] = list(libraries.values())
    bill["serialNumber"] = serial_number(bill)
    path.write_text(json.dumps(bill))
    write_again(project, "deployment_guide.md")


def threshold_of_an_alert_edited(project: Path) -> None:
    path = folder(project) / "final_model/prometheus_rules.yml"
    text = path.read_text()
    path.write_text(re.sub(r'(rule="latency"}\) > )\S+', r"\g<1>0.9", text))


def alert_left_out(project: Path) -> None:
    path = folder(project) / "final_model/prometheus_rules.yml"
    alerts = yaml.safe_load(path.read_text())
    del alerts["groups"][0]["rules"][0]
    path.write_text(yaml.safe_dump(alerts))


def metrics_that_tell_half_of_a_distance(project: Path) -> None:
    edit(
        folder(project) / "final_model/monitor_metrics.py",
        "float(distance)",
        "float(distance) / 2",
    )


def false_alarms_embellished(project: Path) -> None:
    path = folder(project) / MONITORING_GUIDE
    path.write_text(re.sub(r"\d\.\d% had an alarm", "0.05% had an alarm", path.read_text()))


def with_rules(project: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = folder(project) / "final_model/monitoring_rules.json"
    rules = json.loads(path.read_text())
    change(rules)
    path.write_text(json.dumps(rules))


FAULTS = [
    Fault(
        check="finalization/deployment_guide",
        plant=digit_of_a_digest_changed,
        says=r"lines of deployment_guide\.md that differ",
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=export_changed_behind_the_guide,
        says=r"differ.*preprocessing\.json",
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=golden_request_that_nobody_answers,
        says=r"serve\.py --golden: exit status 1",
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=service_that_does_not_start,
        says=r"--health: exit status 1: .*no_such_module",
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=version_edited_in_the_bill,
        says=r'sbom\.cdx\.json .*: components / numpy / version: found "0\.0\.1", wanted "\d',
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=licence_edited_in_the_bill,
        says=r"components / onnxruntime / licenses: found \[\], wanted nothing",
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=package_left_out_of_the_bill,
        says=r'components / protobuf / .*: found nothing, wanted "',
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=metric_edited_in_the_bill,
        says=r'performanceMetrics / 0 / value: found "0\.9992", wanted "0\.9692"',
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=weights_of_another_model_in_the_bill,
        says=r'metadata / component / hashes / 0 / content: found "0{64}"',
    ),
    Fault(
        check="finalization/deployment_guide",
        plant=placeholder_left_in_the_contacts,
        says=r"contacts\.md still asks <Who owns",
    ),
    Fault(
        check="finalization/test_results",
        plant=purpose_missing,
        says=r"docs/model/purpose\.md says nothing",
    ),
    Fault(
        check="finalization/test_results",
        plant=score_edited,
        says=r"lines of test_results\.md .*Test set.*balanced",
    ),
    Fault(
        check="finalization/test_results",
        plant=interval_edited,
        says=r"lines of test_results\.md that differ",
    ),
    Fault(
        check="finalization/test_results",
        plant=section_of_the_results_renamed,
        says=r"missing sections .*'Calibration'",
    ),
    Fault(
        check="finalization/test_results",
        plant=path_edited_in_the_report,
        says=r"final_report\.md .*planning \| FAIL",
    ),
    Fault(
        check="finalization/test_results",
        plant=opening_left_out_of_the_report,
        says=r"final_report\.md .*test set opened \| 0",
    ),
    Fault(
        check="finalization/model_card",
        plant=words_edited_behind_the_card,
        says=r"model_card\.md that differ.*There are none",
    ),
    Fault(check="finalization/model_card", plant=front_matter_without_an_end, says=r"front matter"),
    Fault(
        check="finalization/model_card",
        plant=tags_that_are_no_list,
        says=r"tags: wanted a list of texts",
    ),
    Fault(
        check="finalization/model_card",
        plant=another_class_named_weakest,
        says=r"differ.*weakest class is not",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_near_nothing,
        says=r"1000 sound windows with an alarm: \d",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_of_drift_out_of_reach,
        says=r"shift .*an alarm of input_drift: 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_of_labels_out_of_reach,
        says=r"label shift .* of label_shift: 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_of_nan_out_of_reach,
        says=r"NaN burst .* of not_finite: 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=slow_means_an_hour,
        says=r"latency .* of latency: 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_a_little_higher,
        says=r"calibrated anew.*found",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=monitor_that_needs_torch,
        says=r"the monitor imports torch: True",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=monitor_that_sleeps,
        says=r"shift .*an alarm of input_drift: 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=threshold_of_an_alert_edited,
        says=r'prometheus_rules\.yml that .*: line \d+: found .*rule="latency"}\) > 0\.9',
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=alert_left_out,
        says=r"prometheus_rules\.yml .*recomputed .*MltrainerConfidence",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=metrics_that_tell_half_of_a_distance,
        says=r"windows in which Prometheus alerts otherwise than it alarms: [1-9]\d*, wanted 0",
    ),
    Fault(
        check="finalization/monitoring_guide",
        plant=false_alarms_embellished,
        says=r"lines of monitoring_guide\.md that differ",
    ),
]


@pytest.mark.parametrize("name", ["healthy", "healthy_regression"])
@pytest.mark.parametrize("check", DOCUMENTS)
def test_the_documents_of_a_sound_project_pass(name: str, check: str, copied: Copied) -> None:
    result = judge_check(check, copied(name, "finalization"))
    assert (result.outcome, result.reason) == ("pass", "")
    assert result.judgements


def test_every_check_has_a_planted_fault() -> None:
    assert {fault.check for fault in FAULTS} == set(DOCUMENTS)


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    project = copied(fault.project, "finalization")
    fault.plant(project)
    reseal(project, fault.phase)
    result = judge_check(fault.check, project)
    assert result.outcome == "fail", result
    assert re.search(fault.says, result.reason), result.reason


def test_documents_are_judged_against_the_model_and_not_against_themselves(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    edit_task(project, "        return Splits", "        test = test[:100]\n        return Splits")
    assert "found '| accuracy | 0.9692 (n = 130" in judged(project, "test_results").reason
    assert "value: 0.9692" in judged(project, "model_card").reason


@pytest.mark.parametrize("guide", ["deployment_guide", "monitoring_guide"])
def test_where_there_is_no_export_no_guide_can_be_judged(guide: str, copied: Copied) -> None:
    project = copied("healthy", "finalization")
    (folder(project) / "export_error.json").write_text('{"error": "a branch on data"}')
    result = judged(project, guide)
    assert (result.outcome, result.reason) == (
        "cannot judge",
        "there is no export: a branch on data",
    )


def test_too_few_samples_to_calibrate_cannot_be_judged(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    edit_task(
        project,
        "        return Splits",
        "        validation = validation[:30]\n        return Splits",
    )
    evaluate_again(project)
    result = judged(project, "monitoring_guide")
    assert result.outcome == "cannot judge"
    assert "has 30 samples; wanted at least 40" in result.reason


def test_the_service_needs_nothing_but_its_folder(copied: Copied, tmp_path: Path) -> None:
    source = folder(copied("healthy", "finalization"))
    served = tmp_path / "served"
    (source / "final_model").rename(served)
    for name in SERVICE_FILES:
        assert (served / Path(name).name).is_file()
    program = (
        "import sys; sys.argv[1:] = ['--golden']; import serve, json\n"
        "status = serve.main()\n"
        "print(status, sorted({'torch', 'pytest_mltrainer'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=served, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("request_text", "says"),
    [
        ('{"inputs": [[1, 2]]}', "the model refused the request"),
        ('{"inputs": []}', "at least one row"),
        ("[1]", "at least one row"),
        ("nonsense", "JSONDecodeError"),
        ('{"inputs": [{"name": "other", "dtype": "float32", "values": [1]}]}', "wanted inputs"),
    ],
)
def test_the_service_refuses_bad_requests_in_words(
    request_text: str, says: str, copied: Copied
) -> None:
    served = folder(copied("healthy", "finalization")) / "final_model"
    (served / "request.json").write_text(request_text)
    done = subprocess.run(
        [sys.executable, "serve.py", "--predict", "request.json"],
        cwd=served, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (done.returncode, said["ok"], done.stderr) == (1, False, "")
    assert says in said["error"]


def test_the_service_does_not_load_a_damaged_model(copied: Copied) -> None:
    served = folder(copied("healthy", "finalization")) / "final_model"
    content = bytearray((served / "model.onnx").read_bytes())
    content[-1] ^= 1
    (served / "model.onnx").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "serve.py", "--health"],
        cwd=served, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not the files that model.json names: model.onnx" in json.loads(done.stdout)["error"]


def test_an_edit_of_the_words_redoes_the_documents_only(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    (project / "docs/model/users.md").write_text("# Users\n\nNobody at all.\n")
    plan = run_pytest(project, "--phase=finalization", "--collect-only", "-q", "-p", "no:randomly")
    assert re.search(r"finalization run documents,.*docs/model/users\.md changed", plan.stdout), (
        plan.stdout
    )
