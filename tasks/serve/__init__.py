"""Endpoints: a registered model behind an address, following the registry's alias."""
