"""Figures of other libraries that ours are compared with, and the scripts that write them."""
