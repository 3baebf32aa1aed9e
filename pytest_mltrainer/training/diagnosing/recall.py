"""How much of each class a trained model finds."""

from typing import Any

import numpy as np

from pytest_mltrainer.evaluation.confusion import class_recalls
from pytest_mltrainer.evaluation.predictions import Predictions


def recall_by_class(kind: str, predictions: Predictions) -> dict[str, dict[str, Any]] | None:
    """Recall and number of samples of each class, or of each label of several; None otherwise.

    A label is predicted by a logit above 0. Classes without samples are left out.
    """
    if kind == "classification":
        found = class_recalls(predictions, predictions.outputs.shape[1])
        return {
            str(label): {"recall": recall.value, "n": recall.n}
            for label, recall in found.items()
            if recall.n
        }
    if kind == "multilabel":
        said, wanted = predictions.outputs > 0, predictions.targets > 0.5
        return {
            str(label): {
                "recall": float(said[own, label].mean()),
                "n": int(np.count_nonzero(own)),
            }
            for label, own in enumerate(wanted.T)
            if own.any()
        }
    return None
