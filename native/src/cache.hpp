// The key/value cache: sequences made of blocks of 64 positions, each block holding all layers and heads.
//
// A block is taken when its first position is written, and may be shared by sequences that began alike; who writes into
// a shared block gets a copy first. Inside a block, for each layer and head: keys (head_dim, 64), then values
// (64, padded head_dim), 16-bit floats.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "ops.hpp"

namespace empu {

class Adapter;

struct Sequence {
    int capacity = 0;
    int length = 0;
    std::vector<std::shared_ptr<Memory>> blocks;
    std::shared_ptr<const Adapter> adapter;  // none: the model as it is
};

class Cache {
  public:
    Cache(int layers, int heads, int head_dim, size_t memory_limit);

    // Throws Error when all sequences at their full capacity would need more than the limit.
    int64_t allocate(int capacity, std::shared_ptr<const Adapter> adapter = nullptr);
    void release(int64_t id);
    // The new sequence keeps the adapter, since its keys and values come from it.
    int64_t fork(int64_t id, int length, int capacity);
    void truncate(int64_t id, int length);
    Sequence& at(int64_t id);

    // Makes the blocks of positions [length, length + count) present and unshared. Throws std::bad_alloc.
    void prepare(Sequence& sequence, int count);
    CacheBlock block(const Sequence& sequence, int index, int layer, int head) const;
    // Where key and value of one position begin; the elements of a key stand 64 apart.
    struct Slot {
        uint16_t* key;
        uint16_t* value;
    };
    Slot slot(const Sequence& sequence, int position, int layer, int head) const;

    size_t block_bytes() const { return size_t(layers_) * size_t(heads_) * head_elements_ * sizeof(uint16_t); }

  private:
    size_t reserved_bytes(int capacity) const;
    uint16_t* head_of(const Sequence& sequence, int index, int layer, int head) const;

    int layers_, heads_, head_dim_, width_;
    size_t head_elements_;
    size_t limit_;
    size_t reserved_ = 0;
    int64_t next_ = 0;
    std::map<int64_t, Sequence> sequences_;
};

}  // namespace empu
