"""What is shipped to run the loader with: a container, a proxy, units, against real counterparts."""
