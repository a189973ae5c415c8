"""A share of a generating step's chunks in a pod of its own, and the loop of such pods before the step that merges them."""
