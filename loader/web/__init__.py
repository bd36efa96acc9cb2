"""The HTTP interface: turns requests into calls, and results and errors into responses."""
