"""The Temporal side: one activity attempt from start to end."""
