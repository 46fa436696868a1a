"""The terminal tool `tti`: what streams, where, how it went, what is wrong with the set-up. Extra: `cli`."""
