"""Measure, compare and judge LLM summarization. The library behind the pytest suite."""

__version__ = "0.1.0"
