"""A small, self-hostable Resource API: logins, key fragments and the encrypted objects that loaders fetch.

One data directory contains everything (see `data_directory`). The command `azaion-resource-api` creates it and starts
the server. docs/resource-api.md describes the HTTP contract.
"""

from resource_api.app import create_app

__all__ = ["create_app"]
