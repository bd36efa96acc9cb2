"""Tests of the project as a whole: its structure, its documents, its demo, its packages, its secrets."""
