"""meshgate: gates for Istio upgrades. See ARCHITECTURE.md for the flow and the allowed imports."""

from importlib.metadata import version

__version__ = version("meshgate")
