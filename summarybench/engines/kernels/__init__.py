"""Triton kernels for decoding one sequence: products of a weight matrix with one row, and attention of one token."""
