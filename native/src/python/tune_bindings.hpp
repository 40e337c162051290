// Python bindings of the training layers.
#pragma once

#include <nanobind/nanobind.h>

namespace empu {
void bind_tune(nanobind::module_& module);
}  // namespace empu
