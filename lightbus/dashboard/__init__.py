"""The bus in a browser: what `lightbus dashboard` serves. A client of the bus, which asks while somebody looks."""
