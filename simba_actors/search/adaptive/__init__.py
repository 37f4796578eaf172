"""`policy="adaptive"`: programs are put together from parts whose effects are estimated from all scores."""
