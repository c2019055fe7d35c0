"""The loop over an objective on the host: its arguments, its failures, and `minimize` and `maximize`."""
