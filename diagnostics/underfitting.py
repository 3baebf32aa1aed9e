"""The model does worse than a simple one on the very data that it was trained on."""

from pytest_mltrainer.diagnostics.layer_readings import by_layer
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
    picture,
    setting,
)
from pytest_mltrainer.diagnostics.scores import (
    LEAD_OF_TREES,
    Scores,
    attainable,
    best_validation_score,
    is_held_back,
    near_linear,
    needs_activation,
    read_scores,
    reference,
    span,
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
from pytest_mltrainer.training.diagnosing.remedies import dropout_setting, longer, wider

SHORTFALL = 0.10
VALIDATION_SHORTFALL = 0.05
GAP_LIMIT = 0.10
STILL_FALLING = 0.03
LEAST_GAIN = 0.02
EVEN_SHARE = 0.25
GAINED_SHARE = 0.55
LEARNED_SHARE = 0.2
PULL = 0.5
FEWEST_UPDATES = 200


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on training 0.10 under the linear model, or with half of what trees gain.

    Validation must be 0.05 under the linear model as well: dropout, mix-up and the mean over an
    epoch lower the training metric of healthy models, but not that of validation; and less behind
    training than training is behind the linear model. Trees tell where a linear model finds
    nothing: training and validation both gained under 55 % of their lead over the trivial model on
    validation. A simple model meets the same noise ceiling, so a model at its ceiling is silent.
    Several layers whose outputs follow the inputs on straight lines lack activations, unless a
    linear model does better: a fault of the wiring, which stands before the stall it leads to.
    Not judged without a simple model's scores, and on non-finite losses.
    """
    scores = read_scores(evidence)
    if broken(evidence):
        raise NotJudged("the loss is not finite, which nan_loss explains")
    if scores is None or attainable(evidence) is None:
        raise NotJudged("no scores of the run, or of a simple model, to compare")
    goal = _behind_linear(evidence, scores) or _behind_trees(evidence, scores)
    if goal is None:
        return None
    linear_train, linear = goal
    short, short_validation = linear_train - scores.train, linear - scores.best_validation
    symptoms = (
        Symptom(what="training below a simple model", measured=short, limit=SHORTFALL),
        Symptom(
            what="validation below a simple model",
            measured=short_validation,
            limit=VALIDATION_SHORTFALL,
        ),
        *_pull_symptom(evidence),
    )
    curve = loss_curve(evidence)
    return Diagnosis(
        id="underfitting",
        cause=Cause.WIRING if needs_activation(evidence) else Cause.CAPACITY,
        summary=f"A simple model is {short:.2f} better in {evidence.metric} on the training data: "
        f"{_reason(evidence, scores, linear)}.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        details=_details(scores, linear_train, linear),
        recommendations=by_worth(_fixes(evidence)),
        curve=picture(
            "smoothed training loss", ("part of the run", "loss"), range(1, len(curve) + 1), curve
        ),
    )


def _behind_linear(evidence: Evidence, scores: Scores) -> tuple[float, float] | None:
    """The linear model's skill on training and validation when both are out of reach."""
    train, validation = (reference(evidence, f"linear_{part}") for part in ("train", "validation"))
    if train is None or validation is None:
        return None
    short = train - scores.train
    if short < SHORTFALL or validation - scores.best_validation < VALIDATION_SHORTFALL:
        return None
    return (train, validation) if scores.gap < max(GAP_LIMIT, short) else None


def _behind_trees(evidence: Evidence, scores: Scores) -> tuple[float, float] | None:
    """What trees reach on validation when the run gained hardly more than half of it."""
    goal, trivial = attainable(evidence), reference(evidence, "trivial")
    if goal is None or trivial is None or goal - trivial < LEAD_OF_TREES:
        return None
    near = trivial + GAINED_SHARE * (goal - trivial)
    return (goal, goal) if max(scores.train, scores.best_validation) < near else None


def _pull(evidence: Evidence) -> float | None:
    """Weight decay against what the data ask for, by layer, the largest; None when not recorded.

    As a penalty: decay x |w| / |g|. Decoupled (AdamW): what decay takes from the weights in an
    update, learning rate x decay, over |dw| / |w|. At 1 both are in balance and nothing moves on.
    """
    decay = finite(setting(evidence, "training.weight_decay")) or 0.0
    if decay <= 0 or evidence.layers is None or setting(evidence, "training.optimizer") == "task":
        return None
    updates = by_layer(evidence, "update_ratio", late=True)
    if setting(evidence, "training.optimizer") == "adamw":
        rate = finite(setting(evidence, "training.learning_rate")) or 0.0
        pulls = [rate * decay / value for value in updates.values() if value > 0]
    else:
        weights = by_layer(evidence, "weight_norm", late=True)
        norms = by_layer(evidence, "gradient_norm", late=True)
        pulls = [decay * weights[row] / norm for row, norm in norms.items() if norm > 0]
    return finite(max(pulls, default=None))


def _pull_symptom(evidence: Evidence) -> list[Symptom]:
    pull = _pull(evidence)
    if pull is None or pull < PULL:
        return []
    return [Symptom(what="weight decay over gradient", measured=pull, limit=PULL)]


def _over_regularised(evidence: Evidence) -> bool:
    return bool(
        high_decay(evidence)
        or high_dropout(evidence)
        or is_held_back(evidence)
        or _pull_symptom(evidence)
    )


def _reason(evidence: Evidence, scores: Scores, linear: float) -> str:
    trivial = reference(evidence, "trivial")
    if layers := needs_activation(evidence):
        return f"no activation lies between its {layers} layers, which do no more than one"
    if _over_regularised(evidence):
        return "over-regularised: regularisation holds the weights down"
    if _hardly_begun(evidence):
        return "too few epochs: it was hardly trained at all"
    if _still_falling(evidence):
        return "too few epochs: the training ended while the loss was still falling"
    is_trivial = trivial is not None and scores.train < trivial + LEARNED_SHARE * (linear - trivial)
    if is_trivial or fall(loss_curve(evidence)) < STILL_FALLING:
        return "it has learned hardly anything"
    return "too little capacity: the model is too narrow, or its inputs reach it in a bad form"


def _details(scores: Scores, linear_train: float, linear: float) -> tuple[str, ...]:
    return (
        f"training {scores.train:.4f}, simple model {linear_train:.4f}",
        f"best validation {scores.best_validation:.4f}, simple model {linear:.4f}",
    )


def _still_falling(evidence: Evidence) -> bool:
    """Whether the last third still falls: by 3 %, or by its even share of what the run gained.

    A curve that is limited by the model flattens; one that the pace limits stays a straight line.
    """
    curve = loss_curve(evidence)
    if not curve:
        return False
    late = last_third(curve)
    if fall(late) >= STILL_FALLING:
        return True
    gained, gained_late = curve[0] - curve[-1], late[0] - late[-1]
    return gained >= LEAST_GAIN * abs(curve[0]) and gained_late >= EVEN_SHARE * gained


def _hardly_begun(evidence: Evidence) -> bool:
    """Whether there were too few updates for the loss to show a course."""
    return bool(evidence.epochs) and not loss_curve(evidence)


def _fixes(evidence: Evidence) -> list[Recommendation]:
    reach = span(evidence, best_validation_score(evidence), _simple_score(evidence))
    fixes = []
    if needs_activation(evidence):
        fixes.append(
            Recommendation(
                instruction="put an activation, such as nn.ReLU(), between the layers",
                impact="high",
                predicted=reach,
            )
        )
    if high_decay(evidence) or _pull_symptom(evidence):
        fixes.append(_less_decay(evidence, reach))
    if high_dropout(evidence) or is_held_back(evidence):
        fixes.append(_less_dropout(evidence, reach))
    if _hardly_begun(evidence):
        fixes.append(_far_longer(evidence, reach))
    if _still_falling(evidence):
        fixes += _longer(evidence, reach)
    fixes.append(wider(evidence, can_patch, reach))
    return fixes


def _simple_score(evidence: Evidence) -> float | None:
    names = ("linear_validation", "attainable")
    known = [
        value for name in names if (value := finite(evidence.references.get(name))) is not None
    ]
    if not known:
        return None
    return max(known) if evidence.maximize else min(known)


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
    key = dropout_setting(evidence)
    known = can_patch(evidence, key)
    return Recommendation(
        instruction="lower dropout to 0.1, and weaken augmentation while the training metric is "
        "far below that of validation",
        patch={key: 0.1} if known else {},
        impact="high",
        predicted=reach,
    )


def _far_longer(evidence: Evidence, reach: tuple[float, float] | None) -> Recommendation:
    """As many epochs as 200 updates take."""
    updates, epochs = evidence.epochs[-1].steps, len(evidence.epochs)
    known = can_patch(evidence, "training.epochs") and updates > 0
    return Recommendation(
        instruction=f"train for {FEWEST_UPDATES} updates at least; there were {updates}",
        patch={"training.epochs": -(-FEWEST_UPDATES * epochs // updates)} if known else {},
        impact="high",
        predicted=reach,
    )


def _longer(evidence: Evidence, reach: tuple[float, float] | None) -> list[Recommendation]:
    fixes = [longer(evidence, can_patch, reach)]
    usual = 1e-3 if adaptive(evidence) else 1e-1
    rate = finite(setting(evidence, "training.learning_rate"))
    if rate is not None and 0 < rate < usual:
        known = can_patch(evidence, "training.learning_rate")
        new = min(usual, rate * 10)
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
