//! Runs the sockets: accept, upgrade, the connection actor, directory, router, authority feed.
