"""What is checked of the tables of conf.d: each by itself, and one against others."""
