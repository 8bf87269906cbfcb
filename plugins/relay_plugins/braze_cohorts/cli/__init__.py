"""The command `relay cohorts`."""
