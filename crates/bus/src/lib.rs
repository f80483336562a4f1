//! What nodes tell one another: the bus and presence seams, and their in-process twin.
