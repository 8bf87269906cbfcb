"""The commands of `relay`, one module for each."""
