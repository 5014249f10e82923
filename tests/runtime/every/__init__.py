"""Every method of both formats tried on every family, by adpm and by the peers, and README's table of it."""
