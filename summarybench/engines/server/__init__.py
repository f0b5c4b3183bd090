"""OpenAI-compatible servers as an engine: the client, the server's process and its identity."""
