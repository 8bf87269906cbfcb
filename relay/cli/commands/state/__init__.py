"""Commands about what a state folder holds: journal, parked events, replays, erasures, backups."""
