"""How a worker gets jobs, keeps them and gives them back.

`sync_loop.py` has the one conversation with Redis, `claim.py` decides when to ask for jobs and for how many,
`lease_renewer.py` keeps the leases from its own thread.
"""
