"""What the dock *Pi-SAM: Fine-tune* does: choose objects, check, train, use the result. No Qt."""
