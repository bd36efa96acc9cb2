"""What developers run from the command line."""
