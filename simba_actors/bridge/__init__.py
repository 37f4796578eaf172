"""Students in other processes and languages: the contract, the optimizer's side, and a server for Python programs.

    from simba_actors import OptimizerConfig, RemoteStudent

    config = OptimizerConfig(student=RemoteStudent("http://127.0.0.1:7000"), …)

`bridge.proto` is the contract.
"""
