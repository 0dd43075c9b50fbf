"""labd: the lab daemon that leases ECU benches and runs scenarios on them, its Python SDK and its CLI."""
