"""Run rollouts in a cluster of Ray: workers there run them, and this process keeps the run."""
