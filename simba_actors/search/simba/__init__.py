"""The draws of `dspy.SIMBA`, one for one."""
