"""`make demo`: the whole flow on this machine, each step with the command that a user would type."""
