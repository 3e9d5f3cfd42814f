"""How flows are offered: deployments, work pools, automations, and the bootstrap that registers them."""
