"""conf.d from a browser: what it holds, what a form would make of it, what relay says of that, and the launch."""
