"""labctl: the command line of labd. It knows labd through `labd.client`, and benches through `bench_agent.client`."""
