"""The stages of a training run, one file for each group of them; training/executor.py goes through them in order."""
