"""The figures of an experiment, each declared once.

Terminal, markdown, HTML page and docs/reference/metrics.md take name, heading, unit, format and definition from here.
"""
