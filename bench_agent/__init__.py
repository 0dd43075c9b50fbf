"""The bench agent: the process beside the ECUs, its gRPC protocol and its client."""
