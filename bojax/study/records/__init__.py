"""Stored trials: in an Optuna storage, and as arrays."""
