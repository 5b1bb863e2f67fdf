"""The contracts that ship with the package."""
