"""Changes in the protocols of other clients: for each an encoder, which is pure, and its routes."""
