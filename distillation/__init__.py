"""From a teacher's summaries to a smaller model: `make distill`. It imports the library, which never imports it."""
