"""Where the sockets were before they moved to `lightbus.adapters.zmq`: a name kept for programs that reach inside."""
