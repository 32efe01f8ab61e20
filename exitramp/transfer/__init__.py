"""Moving records: the plan, the one copy loop, its checkpoint, and catching up."""
