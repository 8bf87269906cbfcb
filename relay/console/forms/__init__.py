"""Forms of conf.d's tables, made from the schemas of their types. Pure."""
