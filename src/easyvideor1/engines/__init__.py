"""Generation engines behind one contract."""
