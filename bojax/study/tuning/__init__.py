"""Tuning of training functions: batches in vmapped programs, and hypergradients within a trial."""
