"""`python -m resource_api`: the same as the command `azaion-resource-api`."""

from resource_api.cli import main
from resource_api.cli_output import run_to_the_end


def run() -> None:
    """Run the command line of this process."""
    run_to_the_end(main)


if __name__ == "__main__":
    run()
