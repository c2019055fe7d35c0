"""From stored trials to new ones: suggestions, fixed parameters, Optuna's sampler, and lost evaluations."""
