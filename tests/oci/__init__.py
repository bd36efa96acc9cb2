"""Tests of `loader.oci`."""
