"""One verb, one file; app.py only assembles them."""
