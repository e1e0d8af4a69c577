"""Networks: the interface, the parts, and the names; one network a file."""
