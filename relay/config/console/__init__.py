"""The configuration of the console: its settings, what is checked of them, and the folder of its files."""
