"""`mms.context`."""

from manifold_handler.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
