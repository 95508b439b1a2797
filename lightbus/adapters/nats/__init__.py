"""Events in a NATS JetStream: an existing, replicated engine keeps them, and they outlive every host of the bus."""
