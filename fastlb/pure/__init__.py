"""The reference engine on asyncio and h11: the executable specification of both engines."""
