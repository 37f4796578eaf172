"""The actors of a run, and their messages.

    Optimizer (root Supervisor, rest_for_one)
     ├─ PoolKeeper     the one writer of the store
     ├─ Sampler        runs rollouts
     ├─ Analyzer       turns a step's samples into buckets
     ├─ Proposer       applies strategies to buckets
     ├─ Publisher      publishes what is clearly better
     └─ Coordinator    opens and closes steps

A step flows one way::

    Coordinator ──Sample──▶ Sampler ──Sampled──▶ Analyzer ──Analyzed──▶ Proposer ──Evaluate──▶ Sampler
         ▲                                                                 │                      │
         └───────────────Scored────────────────────Proposed────────────────┴──────────────────────┘

Whatever an actor holds can be read from the store again. Every message may be sent twice: a restarted Coordinator does
so to find out how far its step is. Work that was done already is reported again, but not done again.
"""
