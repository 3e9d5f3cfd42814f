"""Starting trainings: groups, drafts and copies."""
