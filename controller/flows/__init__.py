"""The work behind each verb: ask lanes, tell remote."""
