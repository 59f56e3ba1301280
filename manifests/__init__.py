"""SAYS: the models of every file Hemma writes, their one way to disk, the error tree, and committed manifests."""
