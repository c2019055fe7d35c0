"""From results to stored trials: checked, recorded, corrected, or added without asking."""
