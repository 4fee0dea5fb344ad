"""What each dom0 of the lab runs: one asyncio process, standard library only."""
