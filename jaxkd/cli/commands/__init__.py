"""The commands of ``jaxkd``, one module each."""
