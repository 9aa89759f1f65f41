"""Which commit changed the meaning: git bisect, in a worktree of its own."""
