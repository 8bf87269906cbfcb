"""Stand-ins for Braze and Heap, and the demonstration that runs relay between them."""
