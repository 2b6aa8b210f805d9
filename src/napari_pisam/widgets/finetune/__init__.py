"""The dock *Pi-SAM: Fine-tune*: learn from corrections, watch, and use the result in Segment."""
