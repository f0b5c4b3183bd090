"""Train a smaller model (the student) on the summaries of a larger one (the teacher): `python -m distillation`.

This package imports the library. The library never imports it.
"""
