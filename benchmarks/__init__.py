"""Benchmarks: speed and quality against peers measured in the same run. `README.md` says how to run and read them."""
