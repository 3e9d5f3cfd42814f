"""What happens, in order: one file a flow."""
