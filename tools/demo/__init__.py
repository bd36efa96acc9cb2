"""`make demo`: the whole flow on this machine, each step with the command that a person would type for it."""
