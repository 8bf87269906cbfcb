"""Commands about configuration and plugins."""
