"""`python -m resource_api`: the same as the command `azaion-resource-api`."""

from resource_api.cli import main

if __name__ == "__main__":
    main()
