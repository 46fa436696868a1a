"""Events over HTTP: one reader for each workflow, any number of clients."""
