"""Measure, compare and judge LLM summarization. The library behind the pytest suite."""
