"""Requests that no honest client sends, one function for each class of attack, and the code that delivers them.

The requests are the same at every run.
"""
