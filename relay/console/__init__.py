"""The console: relay in a browser."""
