"""The log between worker and reader: the seam (`base`) and its implementations."""
