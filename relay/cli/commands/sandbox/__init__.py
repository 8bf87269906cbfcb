"""Commands that run the demonstration and the stand-ins."""
