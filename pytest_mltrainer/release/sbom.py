"""`sbom.cdx.json`: what the final model consists of, as CycloneDX 1.6, for those who must know.

The model with the digests of its files and what was measured of it, and every package of the
deployment lock with its licence and what it requires. The JSON is written here: it is a few plain
mappings, which the tests validate with the validator of the CycloneDX project, and a library for it
would be one more package in every environment that trains.
"""

import json
import math
import platform
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pytest_mltrainer.core.artifacts import file_names
from pytest_mltrainer.core.digests import sha256_bytes, sha256_file
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.evaluation.confusion import part_recalls
from pytest_mltrainer.evaluation.intervals import measure
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.export.served import FOLDER, MODEL_MANIFEST, WEIGHTS
from pytest_mltrainer.export.signature import size_text
from pytest_mltrainer.release.clean_room import LOCK, read_pins
from pytest_mltrainer.release.final_model import short_name
from pytest_mltrainer.release.lock import runtimes
from pytest_mltrainer.release.requirements import closure, graph, installed, licences
from pytest_mltrainer.training.results import PART_NAMES, weakest_part
from pytest_mltrainer.training.run import TrainingRun

SBOM = "sbom.cdx.json"
SCHEMA, SPECIFICATION = "http://cyclonedx.org/schema/bom-1.6.schema.json", "1.6"
TOOL = "pytest-mltrainer"
MODEL_REF = "model"
_SERIAL = uuid.uuid5(uuid.NAMESPACE_DNS, TOOL)


def bill_of_materials(run: TrainingRun) -> dict[str, Any]:
    """The bill of a final model's folder as it is now.

    It holds no time, and its serial number is made from what it says: the same model with the same
    packages has the same bill.
    """
    pins = read_pins(run.text(f"{FOLDER}/{LOCK}"))
    found = {name: installed(name, version) for name, version in pins.items()}
    refs = {name: purl(name, version) for name, version in pins.items()}
    wanted = runtimes(run.config.export.formats)
    needs = graph(closure(wanted), pins)
    bill = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {"tools": {"components": [_tool(run)]}, "component": _model(run)},
        "components": [
            {
                "type": "library",
                "bom-ref": refs[name],
                "name": name,
                "version": version,
                "purl": refs[name],
                **_stated(licences(package) if (package := found[name]) else []),
            }
            for name, version in sorted(pins.items())
        ],
        "dependencies": [
            {"ref": MODEL_REF, "dependsOn": [refs[n] for n in sorted(wanted.intersection(pins))]},
            *(
                {"ref": refs[name], "dependsOn": [refs[other] for other in others]}
                for name, others in needs.items()
            ),
        ],
    }
    return {**bill, "serialNumber": serial_number(bill)}


def purl(name: str, version: str) -> str:
    """`pkg:pypi/numpy@2.4.6`."""
    return f"pkg:pypi/{name}@{quote(version, safe='')}"


def serial_number(bill: dict[str, Any]) -> str:
    """The serial number of a bill: the UUID (version 5) of all else that it says."""
    said = {key: value for key, value in bill.items() if key != "serialNumber"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"urn:uuid:{uuid.uuid5(_SERIAL, sha256_bytes(text.encode()))}"


def bill_differences(run: TrainingRun, bill: Any) -> tuple[list[str], str]:
    """What a bill says otherwise than one made now, in words; and what could not be read again.

    Licences are those of the very versions pinned. Where some are not installed, or another system
    judges, they and the requirements stand as the machine that trained has read them.
    """
    again = bill_of_materials(run)
    pins = read_pins(run.text(f"{FOLDER}/{LOCK}"))
    unread = {name for name, version in pins.items() if installed(name, version) is None}
    note = ""
    if unread:
        note = f"not installed here, so their licences were not read: {', '.join(sorted(unread))}"
    elif not _same_system(run):
        note = "another system than the one that trained: what packages require there was not read"
    one, other = dict(_lines(bill)), dict(_lines(again))
    left_out = [f"components / {name} / licenses" for name in unread]
    left_out += ["dependencies"] if note else []
    # Of what it says itself: parts that cannot be read here are in it.
    other["serialNumber"] = _shown(serial_number(bill)) if isinstance(bill, dict) else ""
    different = [
        f"{where}: found {one.get(where, 'nothing')}, wanted {other.get(where, 'nothing')}"
        for where in sorted(one.keys() | other.keys())
        if one.get(where) != other.get(where)
        and not any(where.startswith(part) for part in left_out)
    ]
    # The number follows from the rest: it is no news where something else differs.
    return [line for line in different if not line.startswith("serialNumber")] or different, note


def _same_system(run: TrainingRun) -> bool:
    recorded = run.planned("environment.json")
    here = (platform.machine(), platform.python_version_tuple()[:2], platform.system())
    python = tuple(recorded["python"].split(".")[:2])
    return here == (recorded["machine"], python, recorded["system"].partition("-")[0])


def _tool(run: TrainingRun) -> dict[str, str]:
    """As planning recorded it: a newer one that judges has not made the bill."""
    version = run.planned("environment.json")["packages"].get(TOOL)
    return {"type": "application", "name": TOOL, **({"version": version} if version else {})}


def _model(run: TrainingRun) -> dict[str, Any]:
    folder = run.folder.artifact(FOLDER)
    manifest = run.json(f"{FOLDER}/{MODEL_MANIFEST}")
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL_REF,
        "name": type(run.task).__name__,
        "version": short_name(folder),
        "hashes": _hashes(sha256_file(folder / WEIGHTS)),
        "components": [
            {"type": "file", "bom-ref": f"file:{name}", "name": name}
            | {"hashes": _hashes(sha256_file(folder / name))}
            for name in file_names(folder)
            if name in manifest["files"]
        ],
        "modelCard": _model_card(run, manifest),
    }


def _model_card(run: TrainingRun, manifest: dict[str, Any]) -> dict[str, Any]:
    splits = run.planned("splits.json")["splits"]
    return {
        "modelParameters": {
            "task": run.task.kind,
            "datasets": [
                {"type": "dataset", "name": name, "contents": {"properties": _facts(split)}}
                for name, split in splits.items()
            ],
            "inputs": [{"format": _format(spec)} for spec in manifest["inputs"]],
            "outputs": [{"format": _format(spec)} for spec in manifest["outputs"]],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_performance(run))},
        "considerations": {"technicalLimitations": [weakest_part(run)]},
    }


def _performance(run: TrainingRun) -> Iterator[dict[str, Any]]:
    """Every metric on the test set, and the recall of each class, label or token."""
    test = run.evaluation.test
    for name, score in sorted(test.scores.items()):
        known = METRICS.get(name)
        found = measure(known, test.predictions) if known else Measurement(value=float(score))
        if math.isfinite(found.value):
            yield _metric(name, found, "test")
    for part, recall in part_recalls(test.predictions, run.task.kind).items():
        if recall.is_finite:
            yield _metric("recall", recall, f"test, {PART_NAMES[run.task.kind]} {part}")


def _metric(name: str, found: Measurement, where: str) -> dict[str, Any]:
    said: dict[str, Any] = {"type": name, "value": number(found.value), "slice": where}
    if found.low is not None and found.high is not None:
        bounds = {"lowerBound": number(found.low), "upperBound": number(found.high)}
        said["confidenceInterval"] = bounds
    return said


def _facts(split: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"name": "samples", "value": str(split["n"])},
        {"name": "sha256", "value": split["digest"]},
    ]


def _format(spec: dict[str, Any]) -> str:
    """`inputs: float32 (batch, 30)`."""
    sizes = ", ".join(size_text(axis, size) for axis, size in enumerate(spec["shape"]))
    return f"{spec['name']}: {spec['dtype']} ({sizes})"


def _stated(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"licenses": found} if found else {}


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _lines(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every single value by its place; an entry of a list has its own name where it has one."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _lines(part, f"{where} / {key}" if where else key)
    elif isinstance(value, list) and value:
        used: set[str] = set()
        for index, part in enumerate(value):
            name = str(part.get("name") or part.get("ref")) if isinstance(part, dict) else ""
            name = name if name not in ("", "None", *used) else str(index)
            used.add(name)
            yield from _lines(part, f"{where} / {name}")
    else:
        yield where, _shown(value)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
