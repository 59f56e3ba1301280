"""COMPUTES: the only room that may import torch; it runs on the host from a payload."""
