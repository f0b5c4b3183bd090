"""From a teacher's summaries to a smaller model: `make distill`. It takes from fixtures/, which never takes from here."""
