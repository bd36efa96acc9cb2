"""HTTP: requests into calls, results and errors into replies."""
