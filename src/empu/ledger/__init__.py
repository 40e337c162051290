"""Records of what went into what: hashes, licences, the model store."""
