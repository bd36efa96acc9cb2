"""Hours of use in minutes: everything at a time against a real loader, while what it needs goes away and comes back."""
