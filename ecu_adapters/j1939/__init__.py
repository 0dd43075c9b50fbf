"""SAE J1939: parameter groups, the transport protocol as pure state machines, and the node that runs them on a bus."""
