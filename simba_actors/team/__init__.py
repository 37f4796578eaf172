"""The actors of a run and what they say to one another.

    Optimizer (root Supervisor, rest_for_one)
     ├─ PoolKeeper     the one writer of the store
     ├─ Sampler        runs rollouts
     ├─ Analyzer       turns a step's samples into buckets
     ├─ Proposer       applies strategies to buckets
     ├─ Publisher      publishes what is better beyond doubt
     └─ Coordinator    opens and closes steps

A step flows one way::

    Coordinator ──Sample──▶ Sampler ──Sampled──▶ Analyzer ──Analyzed──▶ Proposer ──Evaluate──▶ Sampler
         ▲                                                                 │                      │
         └───────────────Scored────────────────────Proposed────────────────┴──────────────────────┘

No actor holds what the store cannot give back. Every message may be sent twice, as a restarted Coordinator does to find
out how far its step is: what has been done is not done again, only told again.
"""
