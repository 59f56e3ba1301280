"""Datasets: read from any format, audited as a whole, mapped, packed, and turned into token files."""
