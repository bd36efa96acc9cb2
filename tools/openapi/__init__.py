"""The OpenAPI description of the loader, made from its routes, its schemas and `operations.OPERATIONS`."""
