"""Values before a surrogate sees them: scales, ranks, monotone maps."""
