"""Crash reports: from an exception or a dead process to an event on disk, and from there to the operator's server.

Owns everything about Sentry's protocol; nothing else imports `sentry_sdk`. A report's way by file names:
`describe.py` (an exception or faulthandler's dump to a `Crashed` fact, in the process it happened in), `event.py` (the
fact to an event), `limits.py` (a crash loop is one issue with a count), `client.py` (the event to the spool),
`delivery.py` (from the spool to the server).
"""
