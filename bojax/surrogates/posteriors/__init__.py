"""What a surrogate answers with: the posterior, mixtures of it, its sample paths, diagnostics."""
