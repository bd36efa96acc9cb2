"""Tests of loader.model_cache: in process, against an upstream in memory."""
