"""Writes the generated pages of the documentation: `make docs`. `make test` checks that they are current."""
