"""The Flax model zoo: real training runs with search spaces, ready to be tuned.

Installed as `bojax.models`, and independent of the rest of bojax: any tuner can use it.

Example:
    Train four configurations of one network as a single program::

        import jax, numpy as np
        from bojax.models import digits_mlp

        rng = np.random.default_rng(0)
        hparams = {
            "learning_rate": np.array([1e-3, 3e-3, 1e-2, 3e-2]),
            "schedule": np.full(4, 2),            # position 2: "cosine"
            "warmup": np.full(4, 0.05),
            "optimizer": np.full(4, 2),           # position 2: "adamw"
            "batch_size": np.full(4, 2),          # position 2: 64
            "weight_decay": np.full(4, 1e-4),
            "clip_norm": np.full(4, 10.0),
            "init_scale": np.ones(4),
            "label_smoothing": np.zeros(4),
            "width": np.array([32, 64, 128, 256]),
            "depth": np.array([1, 2, 3, 4]),
            "dropout": np.full(4, 0.1),
            "activation": np.zeros(4, int),       # position 0: "relu"
        }
        keys = jax.random.split(jax.random.key(0), 4)
        metrics = jax.jit(jax.vmap(digits_mlp.train))(keys, hparams)
        metrics["validation_accuracy"]              # [4]
"""

from ._objective import Objective, Program
from ._spaces import training_space
from ._structure import Shapes
from ._tasks import Task, classification, language, regression, sequence
from ._train import make_objective
from .cnn import digits_cnn
from .data import Dataset, Split
from .language_model import modular_transformer, text_lm
from .logistic import cancer_logistic
from .mlp import cancer_mlp, diabetes_mlp, digits_mlp, wine_mlp
from .resnet import digits_resnet
from .rnn import digits_gru, digits_lstm, digits_rnn
from .seq2seq import dates_seq2seq, sorting_seq2seq
from .transformer import dates_transformer
from .vit import digits_vit

OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        digits_mlp,
        digits_cnn,
        digits_resnet,
        digits_vit,
        digits_rnn,
        digits_lstm,
        digits_gru,
        dates_seq2seq,
        dates_transformer,
        sorting_seq2seq,
        text_lm,
        modular_transformer,
        cancer_mlp,
        wine_mlp,
        diabetes_mlp,
        cancer_logistic,
    )
}


def objectives() -> dict[str, Objective]:
    """Every objective of the zoo.

    Returns:
        A new dictionary from name to objective.

    Example:
        >>> from bojax.models import objectives
        >>> sorted(objectives())[:3]
        ['cancer_logistic', 'cancer_mlp', 'dates_seq2seq']
    """
    return dict(OBJECTIVES)


__all__ = [
    "OBJECTIVES",
    "Dataset",
    "Objective",
    "Program",
    "Shapes",
    "Split",
    "Task",
    "cancer_logistic",
    "cancer_mlp",
    "classification",
    "dates_seq2seq",
    "dates_transformer",
    "diabetes_mlp",
    "digits_cnn",
    "digits_gru",
    "digits_lstm",
    "digits_mlp",
    "digits_resnet",
    "digits_rnn",
    "digits_vit",
    "language",
    "make_objective",
    "modular_transformer",
    "objectives",
    "regression",
    "sequence",
    "sorting_seq2seq",
    "text_lm",
    "training_space",
    "wine_mlp",
]
