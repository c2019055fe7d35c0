"""The Flax model zoo: real training runs with a search space each, ready to be tuned.

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
from ._train import make_objective
from .cnn import digits_cnn, make_digits_cnn
from .language_model import make_modular_transformer, make_text_lm, modular_transformer, text_lm
from .logistic import cancer_logistic, make_cancer_logistic
from .mlp import (
    cancer_mlp,
    diabetes_mlp,
    digits_mlp,
    make_cancer_mlp,
    make_diabetes_mlp,
    make_digits_mlp,
    make_wine_mlp,
    wine_mlp,
)
from .resnet import digits_resnet, make_digits_resnet
from .rnn import digits_gru, digits_lstm, digits_rnn, make_digits_gru, make_digits_lstm, make_digits_rnn
from .seq2seq import dates_seq2seq, make_dates_seq2seq, make_sorting_seq2seq, sorting_seq2seq
from .transformer import dates_transformer, make_dates_transformer
from .vit import digits_vit, make_digits_vit

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
    """Every objective of the zoo by name, in a dictionary of the caller's own."""
    return dict(OBJECTIVES)


__all__ = [
    "OBJECTIVES",
    "Objective",
    "Program",
    "cancer_logistic",
    "cancer_mlp",
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
    "make_cancer_logistic",
    "make_cancer_mlp",
    "make_dates_seq2seq",
    "make_dates_transformer",
    "make_diabetes_mlp",
    "make_digits_cnn",
    "make_digits_gru",
    "make_digits_lstm",
    "make_digits_mlp",
    "make_digits_resnet",
    "make_digits_rnn",
    "make_digits_vit",
    "make_modular_transformer",
    "make_objective",
    "make_sorting_seq2seq",
    "make_text_lm",
    "make_wine_mlp",
    "modular_transformer",
    "objectives",
    "sorting_seq2seq",
    "text_lm",
    "wine_mlp",
]
