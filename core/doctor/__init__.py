"""What a machine needs to be a node, and what is wrong with it: one reader of facts and one pure check for each matter."""
