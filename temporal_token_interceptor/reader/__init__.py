"""The client side: entries of a transport, joined with Temporal, become events."""
