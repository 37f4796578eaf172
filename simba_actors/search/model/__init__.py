"""The posterior over the parts of a prompt."""
