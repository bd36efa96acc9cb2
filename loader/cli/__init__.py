"""The command line: `azaion-loader`, or `python -m loader`."""
