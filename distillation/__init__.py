"""Training a smaller model (student) on the summaries of a larger one (teacher).

`python -m distillation` is the command.

This package imports the library. The library never imports it.
"""
