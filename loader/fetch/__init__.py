"""Fetches a release from the resource API: its head, then the blobs that are not here, then one rename."""
