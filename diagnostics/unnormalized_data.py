"""The inputs reach the first layer on scales that it cannot learn from."""

from pytest_mltrainer.diagnostics.readings import (
    can_patch,
    lookup,
    number_in,
    setting,
    text_in,
)
from pytest_mltrainer.diagnostics.scores import (
    SHORT_OF_LEAD,
    attainable,
    near_linear,
    read_scores,
    reference,
    target,
)

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)
from pytest_mltrainer.core.ranking import by_worth

SCALE_LIMIT = 1e3
SIZE_LIMIT = 100.0
SHORTFALL = 0.05
# A first layer of such a type sets the scale itself, or looks rows up.
SCALING_LAYERS = ("norm", "embed", "standard", "scal", "quant")


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when columns differ over 1,000-fold in scale, or inputs go beyond 100, and it hurt.

    It hurt: the run broke, or its best validation is below the target and over 0.05 (15 % of its
    lead over the trivial one) below the best simple model; by one of them, if only one is known.
    Before any training it warns with half the confidence, since many models learn all the same.
    Silent when the first layer normalises or embeds; on other inputs than feature vectors, images
    and series; and before training on integers, which the model must convert by itself, and on
    series, whose models often cope. Not judged where inputs are no arrays.
    """
    inputs = lookup(evidence.profile, "inputs")
    if not isinstance(inputs, dict):
        raise NotJudged("the profile of the data says nothing of inputs")
    if inputs.get("judged") is False:
        raise NotJudged(text_in(inputs, "reason") or "inputs were not judged")
    symptoms = _symptoms(inputs)
    if not symptoms or _scaled_by_model(evidence):
        return None
    trained = bool(evidence.epochs) or bool(evidence.fault)
    if (trained and not _suffered(evidence)) or (
        not trained and (_integers(inputs) or _only_series(inputs))
    ):
        return None
    return Diagnosis(
        id="unnormalized_data",
        cause=Cause.INIT_OR_SCALE,
        summary=_summary(evidence, symptoms, trained),
        confidence=confidence(symptoms) * (1.0 if trained else 0.5),
        symptoms=tuple(symptoms),
        where=_columns(inputs),
        recommendations=by_worth(_fixes(evidence)),
    )


def _image(inputs: object) -> bool:
    shape = lookup(inputs, "shape")
    return isinstance(shape, (list, tuple)) and len(shape) == 3


def _series(inputs: object) -> bool:
    """Whether the inputs are measured series (time, channels); whole numbers may be words."""
    shape = lookup(inputs, "shape")
    return isinstance(shape, (list, tuple)) and len(shape) == 2 and not _integers(inputs)


def _only_series(inputs: object) -> bool:
    return _series(inputs) and lookup(inputs, "tabular") is not True


def _integers(inputs: object) -> bool:
    return "int" in text_in(inputs, "dtype")


def _symptoms(inputs: object) -> list[Symptom]:
    tabular = lookup(inputs, "tabular") is True
    found = []
    ratio, size = number_in(inputs, "scale_ratio"), number_in(inputs, "max_abs")
    if tabular and ratio is not None and ratio > SCALE_LIMIT:
        found.append(
            Symptom(what="largest over smallest column scale", measured=ratio, limit=SCALE_LIMIT)
        )
    if (tabular or _image(inputs) or _series(inputs)) and size is not None and size > SIZE_LIMIT:
        found.append(Symptom(what="largest input", measured=size, limit=SIZE_LIMIT))
    return found


def _scaled_by_model(evidence: Evidence) -> bool:
    layer = text_in(evidence.profile, "model", "first_layer").lower()
    return any(word in layer for word in SCALING_LAYERS)


def _suffered(evidence: Evidence) -> bool:
    """Whether the run fell short of every goal that is known; False when none is."""
    if evidence.fault:
        return True
    scores = read_scores(evidence)
    simple, trivial = attainable(evidence), reference(evidence, "trivial")
    lead = 0.0 if simple is None or trivial is None else simple - trivial
    short = max(SHORTFALL, SHORT_OF_LEAD * lead)
    goals = [target(evidence), None if simple is None else simple - short]
    known = [goal for goal in goals if goal is not None]
    return scores is not None and bool(known) and scores.best_validation < min(known)


def _columns(inputs: object) -> str:
    widest = lookup(inputs, "widest")
    if not isinstance(widest, (list, tuple)):
        return ""
    shown = []
    for entry in widest[:3]:
        column, mean, std = (number_in(entry, name) for name in ("column", "mean", "std"))
        if column is not None and mean is not None and std is not None:
            shown.append(f"column {column:.0f} (mean {mean:.4g}, std {std:.4g})")
    return ", ".join(shown)


def _summary(evidence: Evidence, symptoms: list[Symptom], trained: bool) -> str:
    layer = text_in(evidence.profile, "model", "first_layer") or "the first layer"
    apart = any(symptom.limit == SCALE_LIMIT for symptom in symptoms)
    what = "columns of very different scales" if apart else "large raw values"
    effect = (
        "and the model does not learn well from them"
        if trained
        else ("which usually slows or breaks the training")
    )
    return f"{layer} receives {what}, {effect}."


def _fixes(evidence: Evidence) -> list[Recommendation]:
    reach = near_linear(evidence)
    inputs = lookup(evidence.profile, "inputs")
    for key in ("data.standardize", "data.normalize"):
        if setting(evidence, key) is False and can_patch(evidence, key):
            patch = {key: True}
            break
    else:
        patch = {}
    first = (
        "divide the pixels by 255 and subtract the mean"
        if _image(inputs)
        else "subtract each channel's mean and divide by its standard deviation over training"
        if _series(inputs)
        else "standardise each column with mean and standard deviation of the training split"
    )
    columns = number_in(inputs, "columns")
    norm = "BatchNorm2d" if _image(inputs) else "BatchNorm1d"
    size = f"{columns:.0f}" if columns is not None and lookup(inputs, "tabular") is True else ""
    return [
        Recommendation(
            instruction=f"in Task.data, {first}; apply the same numbers to all splits",
            patch=patch,
            impact="high",
            predicted=reach,
        ),
        Recommendation(
            instruction=f"or put nn.{norm}({size}) in front of the first layer in Task.model: it "
            "travels with the exported model",
            impact="high",
            effort="medium",
            predicted=reach,
        ),
    ]
