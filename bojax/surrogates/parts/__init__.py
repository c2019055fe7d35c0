"""The parts that surrogates are made of: kernels, mean functions, noise, and their likes in GPJax."""
