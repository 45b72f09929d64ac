"""`ts.torch_handler`: handlers that archives name, or derive theirs from."""
