"""What the server stores objects in."""
