"""The row engine: the same on Colab, on the host and here. Standard library only, so it runs wherever Python does."""
