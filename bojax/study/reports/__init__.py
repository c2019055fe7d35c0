"""What a study knows so far: predictions, figures, and a data frame."""
