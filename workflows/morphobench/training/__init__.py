"""How a model is trained: one loop, and one package a framework."""
