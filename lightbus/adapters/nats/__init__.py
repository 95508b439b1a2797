"""Events in a NATS JetStream: an existing, replicated system stores them, and they outlive every host of the bus."""
