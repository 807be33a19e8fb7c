"""Which trials to run, and what is learned from them."""
