"""Faults that users of tuning libraries run into, by kind: each file holds one kind, with the right value."""
