"""Stored trials: what an Optuna storage holds of a study, and the same as arrays."""
