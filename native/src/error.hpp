// Errors of the engine.
#pragma once

#include <stdexcept>

namespace empu {

// A message for the user; the Python side turns it into an EmpuError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Weights are infinite or NaN.
struct NotFiniteError : Error {
    using Error::Error;
};

// The KV cache has no space for another sequence now, but may have later.
struct CacheFullError : Error {
    using Error::Error;
};

}  // namespace empu
