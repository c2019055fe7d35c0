"""The hyperparameters of training that every objective has, and those that models share."""

from collections.abc import Sequence

from ._layers import ACTIVATIONS
from ._objective import Spec
from ._optimizers import OPTIMIZERS
from ._schedules import SCHEDULES


def training_space(batch_sizes: Sequence[int] = (16, 32, 64, 128), *, classes: bool = True) -> Spec:
    """Optimizer, schedule and regularization.

    Args:
        batch_sizes: choices of the number of examples per step.
        classes: whether there are labels to smooth.

    Returns:
        ``learning_rate``; ``schedule`` and ``warmup`` (fraction of the run); ``optimizer``; ``batch_size``;
        ``weight_decay``; ``clip_norm`` (largest norm of a gradient); ``init_scale`` (factor of all initial kernels);
        ``label_smoothing`` (fraction of a label spread over all classes).

    Example:
        >>> from bojax.models import training_space
        >>> training_space((8, 16))["batch_size"]
        {'type': 'ordinal', 'values': [8, 16]}
    """
    space: Spec = {
        "learning_rate": {"type": "float", "low": 1e-4, "high": 0.3, "log": True},
        "schedule": {"type": "categorical", "choices": list(SCHEDULES)},
        "warmup": {"type": "float", "low": 0.0, "high": 0.3, "log": False},
        "optimizer": {"type": "categorical", "choices": list(OPTIMIZERS)},
        "batch_size": {"type": "ordinal", "values": list(batch_sizes)},
        "weight_decay": {"type": "float", "low": 1e-6, "high": 1e-1, "log": True},
        "clip_norm": {"type": "float", "low": 0.1, "high": 100.0, "log": True},
        "init_scale": {"type": "float", "low": 0.25, "high": 2.0, "log": True},
    }
    if classes:
        space["label_smoothing"] = {"type": "float", "low": 0.0, "high": 0.2, "log": False}
    return space


DROPOUT: Spec = {"dropout": {"type": "float", "low": 0.0, "high": 0.5, "log": False}}
ACTIVATION: Spec = {"activation": {"type": "categorical", "choices": list(ACTIVATIONS)}}
