"""Ovenproof: bake it, roll it, prove it. One module a verb of the flow; see README, "How it is built"."""
