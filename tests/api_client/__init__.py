"""Tests of loader.api_client against real HTTP servers."""
