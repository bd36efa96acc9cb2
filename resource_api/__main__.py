"""`python -m resource_api`."""

from resource_api.cli import main

if __name__ == "__main__":
    main(prog_name="python -m resource_api")
