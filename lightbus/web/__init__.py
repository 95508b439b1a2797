"""What the dashboard and the gateway share: a server with bounds, who is asked for, tokens, bodies, live events."""
