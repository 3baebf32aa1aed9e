"""The model does worse than a linear one on the very data that it was trained on."""

from pytest_mltrainer.diagnostics.readings import (
    adaptive,
    broken,
    can_patch,
    fall,
    finite,
    high_decay,
    high_dropout,
    last_third,
    loss_curve,
    setting,
)
from pytest_mltrainer.diagnostics.scores import (
    Scores,
    best_validation_score,
    near_linear,
    read_scores,
    reference,
    span,
)

from pytest_mltrainer.core.evidence import Cause, Diagnosis, Evidence, Recommendation, Symptom
from pytest_mltrainer.core.ranking import by_worth

SHORTFALL = 0.10
VALIDATION_SHORTFALL = 0.05
GAP_LIMIT = 0.10
STILL_FALLING = 0.03
LEARNED_SHARE = 0.2


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when training is 0.10 under the linear model and the gap to validation under 0.10.

    Validation must be 0.05 under the linear model as well: dropout, mix-up and the mean over an
    epoch lower the training metric of healthy models, but not that of validation. A linear model
    meets the same noise ceiling, so a model at its ceiling is silent. Silent without the linear
    scores, and on non-finite losses.
    """
    scores = read_scores(evidence)
    linear_train = reference(evidence, "linear_train")
    linear = reference(evidence, "linear_validation")
    if broken(evidence) or scores is None or linear_train is None or linear is None:
        return None
    short = linear_train - scores.train
    short_validation = linear - scores.best_validation
    if short < SHORTFALL or short_validation < VALIDATION_SHORTFALL or abs(scores.gap) >= GAP_LIMIT:
        return None
    return Diagnosis(
        id="underfitting",
        cause=Cause.CAPACITY,
        summary=f"A linear model is {short:.2f} better in {evidence.metric} on the training data: "
        f"{_reason(evidence, scores, linear)}.",
        confidence=min(0.95, 0.7 + short),
        symptoms=(
            Symptom(what="training below the linear model", measured=short, limit=SHORTFALL),
            Symptom(
                what="validation below the linear model",
                measured=short_validation,
                limit=VALIDATION_SHORTFALL,
            ),
            Symptom(what="gap", measured=scores.gap, limit=GAP_LIMIT),
        ),
        details=_details(scores, linear_train, linear),
        recommendations=by_worth(_fixes(evidence)),
    )


def _reason(evidence: Evidence, scores: Scores, linear: float) -> str:
    trivial = reference(evidence, "trivial")
    if high_decay(evidence) or high_dropout(evidence):
        return "regularisation holds the weights down"
    if _still_falling(evidence):
        return "the training ended while the loss was still falling"
    if trivial is not None and scores.train < trivial + LEARNED_SHARE * (linear - trivial):
        return "it has learned hardly anything"
    return "the model is too narrow, or its inputs reach it in a bad form"


def _details(scores: Scores, linear_train: float, linear: float) -> tuple[str, ...]:
    return (
        f"training {scores.train:.4f}, linear model {linear_train:.4f}",
        f"best validation {scores.best_validation:.4f}, linear model {linear:.4f}",
    )


def _still_falling(evidence: Evidence) -> bool:
    return fall(last_third(loss_curve(evidence))) >= STILL_FALLING


def _fixes(evidence: Evidence) -> list[Recommendation]:
    reach = span(evidence, best_validation_score(evidence), _linear_score(evidence))
    fixes = []
    if high_decay(evidence):
        fixes.append(_less_decay(evidence, reach))
    if high_dropout(evidence):
        fixes.append(_less_dropout(evidence, reach))
    if _still_falling(evidence):
        fixes += _longer(evidence, reach)
    fixes.append(_wider(evidence, reach))
    return fixes


def _linear_score(evidence: Evidence) -> float | None:
    return finite(evidence.references.get("linear_validation"))


def _less_decay(evidence: Evidence, reach: tuple[float, float] | None) -> Recommendation:
    decay = finite(setting(evidence, "training.weight_decay")) or 0.0
    known = can_patch(evidence, "training.weight_decay")
    return Recommendation(
        instruction="divide the weight decay by 10, and again while the training metric rises",
        patch={"training.weight_decay": float(f"{decay / 10:.6g}")} if known else {},
        impact="high",
        predicted=reach,
    )


def _less_dropout(evidence: Evidence, reach: tuple[float, float] | None) -> Recommendation:
    known = can_patch(evidence, "model.dropout")
    return Recommendation(
        instruction="lower dropout to 0.1",
        patch={"model.dropout": 0.1} if known else {},
        impact="high",
        predicted=reach,
    )


def _longer(evidence: Evidence, reach: tuple[float, float] | None) -> list[Recommendation]:
    epochs, rate = (setting(evidence, f"training.{key}") for key in ("epochs", "learning_rate"))
    fixes = []
    if isinstance(epochs, int) and can_patch(evidence, "training.epochs"):
        fixes.append(
            Recommendation(
                instruction="train three times as long",
                patch={"training.epochs": 3 * epochs},
                impact="high",
                effort="medium",
                predicted=reach,
            )
        )
    usual = 1e-3 if adaptive(evidence) else 1e-1
    if (read := finite(rate)) is not None and 0 < read < usual:
        known = can_patch(evidence, "training.learning_rate")
        new = min(usual, read * 10)
        fixes.append(
            Recommendation(
                instruction=f"raise the learning rate to {new:.4g}",
                patch={"training.learning_rate": float(f"{new:.6g}")} if known else {},
                impact="high",
                risk="medium",
                predicted=near_linear(evidence),
            )
        )
    return fixes


def _wider(evidence: Evidence, reach: tuple[float, float] | None) -> Recommendation:
    for key in ("model.width", "model.hidden"):
        size = setting(evidence, key)
        if isinstance(size, int) and size > 0 and can_patch(evidence, key):
            return Recommendation(
                instruction="make the model wider",
                patch={key: max(4 * size, 32)},
                impact="medium",
                effort="medium",
                predicted=reach,
            )
    return Recommendation(
        instruction="make the narrowest layer at least as wide as the number of classes and of "
        "useful features, and see that no activation or pooling throws the input away",
        impact="medium",
        effort="medium",
        predicted=reach,
    )
