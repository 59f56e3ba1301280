"""JOINS: asks lanes what may happen, tells remote to do it, reports what did."""
