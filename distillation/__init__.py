"""From a teacher's summaries to a smaller model: `python -m distillation`. It imports the library, which never imports it."""
