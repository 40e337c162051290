// Forward pass of the transformer over one batch.
#pragma once

#include "model/batch.hpp"
#include "model/thread_pool.hpp"
#include "model/workspace.hpp"

namespace empu {

struct ForwardContext {
    const Model& model;
    const Ops& ops;
    ThreadPool& pool;
    const KvCache& cache;
    const float* cosines;  // (positions, head_dim / 2)
    const float* sines;
    Batch& batch;
    Workspace& workspace;
};

// To be called by every thread of a task of the pool.
void run_forward_pass(const ForwardContext& context, int thread);

}  // namespace empu
