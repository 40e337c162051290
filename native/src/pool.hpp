// A few threads that work in step: `run` gives every thread the same task, `wait` is the barrier inside it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace empu {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }
    // Calls task(thread) on all threads, the caller being thread 0, and returns when all are done. The task must not throw.
    void run(const std::function<void(int)>& task);
    // Inside a task: returns when all threads have come here.
    void wait();

  private:
    void work(int thread);
    void await_task(uint32_t seen);

    int threads_;
    const std::function<void(int)>* task_ = nullptr;
    alignas(64) std::atomic<uint32_t> started_{0};
    alignas(64) std::atomic<uint32_t> arrived_{0};
    alignas(64) std::atomic<uint32_t> phase_{0};
    std::atomic<bool> stop_{false};
    std::vector<std::thread> workers_;
};

// The part of [0, count) that thread `index` of `threads` does.
struct Share {
    int begin;
    int end;
};
inline Share share(int count, int index, int threads) {
    return {int(int64_t{count} * index / threads), int(int64_t{count} * (index + 1) / threads)};
}

}  // namespace empu
