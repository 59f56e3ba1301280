"""The part of Hemma that runs on the host: standard library, Python 3.9, sent by value, imports nothing of ours."""
