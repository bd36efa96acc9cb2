"""Real counterparts for the tests: processes, engines, images, servers and a proxy that takes notes."""
