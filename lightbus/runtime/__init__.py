"""Where core, service and io meet, on asyncio: one file per path a message takes."""
