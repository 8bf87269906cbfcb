"""A second engine of the store, in memory and of few lines. It keeps every promise but durability."""
