"""Layer 2: sources of documents, sampling and prompts."""
