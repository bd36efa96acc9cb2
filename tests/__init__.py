"""The tests of the loader. Counterparts (engines, servers, proxies) are real processes, see `tests.support`."""
