#pragma once

#include <nanobind/nanobind.h>

namespace empu {

void bind_encoder(nanobind::module_& module);

}  // namespace empu
