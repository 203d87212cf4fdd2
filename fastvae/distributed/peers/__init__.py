"""The other ranks of a run: how they meet, the heartbeat that shows that each still runs, and the first failure."""
