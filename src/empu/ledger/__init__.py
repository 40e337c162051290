"""Records of what went into what: content hashes, licences. The one place where identity is defined."""
