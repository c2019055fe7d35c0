"""Early stopping of training runs: successive halving, Hyperband, ASHA, BOHB, freeze-thaw, PBT."""

from bojax.multifidelity._asha import asha
from bojax.multifidelity._brackets import Rung, halving, hyperband_brackets, num_steps_of
from bojax.multifidelity._curve_kernel import CurveParams, freeze_thaw_kernel
from bojax.multifidelity._freeze_thaw import freeze_thaw
from bojax.multifidelity._halving import bohb, hyperband, successive_halving
from bojax.multifidelity._history import History
from bojax.multifidelity._pbt import Explore, PBTResult, pbt
from bojax.multifidelity._population import Population
from bojax.multifidelity._samplers import model_sampler, random_sampler
from bojax.multifidelity._stored_population import RunStorage
from bojax.multifidelity._train_many import train_many
from bojax.multifidelity._trainable import Program, Trainable, from_functions

__all__ = [
    "CurveParams",
    "Explore",
    "History",
    "PBTResult",
    "Population",
    "Program",
    "RunStorage",
    "Rung",
    "Trainable",
    "asha",
    "bohb",
    "freeze_thaw",
    "freeze_thaw_kernel",
    "from_functions",
    "halving",
    "hyperband",
    "hyperband_brackets",
    "model_sampler",
    "num_steps_of",
    "pbt",
    "random_sampler",
    "successive_halving",
    "train_many",
]
