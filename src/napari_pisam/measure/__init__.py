"""How well one mask agrees with another, and where a user would click next."""
