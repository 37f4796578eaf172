"""The dashboard: the runs of a store in a browser, live or afterwards.

    from simba_actors.web import dashboard

    app.mount("/simba", dashboard("simba.db"))

It needs the extra `web`.
"""

from simba_actors.web.app import dashboard

__all__ = ["dashboard"]
