"""Names: looking up the addresses of peers at name servers."""
