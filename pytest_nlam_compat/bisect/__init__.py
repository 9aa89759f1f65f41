"""Find the commit that broke references: git bisect in a private worktree."""
