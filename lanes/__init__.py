"""DECIDES: data in, verdict or plan out. No clock, disk, process or network is reachable from here."""
