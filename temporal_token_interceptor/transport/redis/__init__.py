"""Redis Streams as a transport; the only folder that imports `redis`."""
