"""A long mixed use of a real loader in minutes, while the API, the engine and the worker stop and start."""
