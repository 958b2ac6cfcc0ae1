"""The status page for people, and the same figures for machines.

access    who may see it: the token, sessions, forms that only our own pages can send, headers
pages     what people read
actions   what people press: retry, run now, pause, resume
chart     the small chart, as numbers
metrics   what Prometheus reads
site      all the paths together
serving   listening, within the daemon's own loop
"""
