"""One container, from its specification to its removal; independent of run folders."""
