"""A stand-in for Braze: Currents out, REST API in."""
