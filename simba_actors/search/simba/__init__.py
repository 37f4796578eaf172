"""`policy="dspy"`: the search of `dspy.SIMBA`, draw for draw."""
