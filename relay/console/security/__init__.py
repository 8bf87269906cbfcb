"""Who may use the console, from where, and for how long."""
