"""Unlocks on every engine in both modes: after a failure nothing has changed, after a success the images run."""
