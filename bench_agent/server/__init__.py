"""The server half of the bench agent: it alone touches the hardware, and only for those who hold the lease."""
