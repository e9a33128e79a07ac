"""The control plane on asyncio: supervisor, membership, prober, logs."""
