"""The cache of big parts on this device."""
