"""Requests that no honest client sends, by class of attack, the same at every run, and how they are delivered."""
