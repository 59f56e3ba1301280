"""Facts and verdicts as tables, JSON and pages for people."""
