"""A small, self-hostable Resource API: logins, one key fragment and the encrypted objects that loaders fetch.

Everything lies in one data directory (see `data_directory`); `azaion-resource-api --help` prepares it and starts
the server. The HTTP contract is described in docs/resource-api.md.
"""

from resource_api.app import create_app

__all__ = ["create_app"]
