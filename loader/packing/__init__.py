"""Packing: makes `images.enc` from images of an engine, a file or a directory; shows, verifies, thins, joins.

The machine that ships images to devices uses it, not the devices. What a source says about its images is only compared:
every digest in an archive was computed from the bytes that were sealed.
"""
