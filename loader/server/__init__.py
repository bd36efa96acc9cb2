"""What the loader adds to gunicorn, its WSGI server, and to the memory allocator of the process."""
