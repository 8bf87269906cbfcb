"""HTTP to destinations: connections, TLS, proxies, and what a failure means."""
