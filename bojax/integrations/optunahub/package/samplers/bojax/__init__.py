"""The sampler of bojax as a package of OptunaHub."""

from bojax.integrations.optuna import BojaxSampler

__all__ = ["BojaxSampler"]
