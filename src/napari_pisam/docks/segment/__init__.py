"""What the Segment dock does: layers in, objects and labels out."""
