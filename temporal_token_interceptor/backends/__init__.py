"""Transports: the seam (`base`), in process (`memory`), Redis Streams (`redis`)."""
