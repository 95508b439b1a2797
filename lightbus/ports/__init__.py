"""The edges of the bus as protocols: what it needs of a network and of a store, whatever is behind them."""
