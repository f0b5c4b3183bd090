"""Triton kernels for decoding at batch size 1.

They compute products of a weight matrix with one row, and the attention of one token.
"""
