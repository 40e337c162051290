// KV cache: sequences made of blocks of 64 positions. Each block holds all layers and heads.
//
// A block is allocated when its first position is written. Sequences with a common prefix may share blocks; a sequence
// copies a shared block before writing to it. In a block, for each layer and head: keys (head_dim / 2, 64, 2), then
// values (32, padded head_dim, 2), as bfloat16; or both as int8, then 64 scales of keys and 64 scales of values.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "kernels/ops.hpp"
#include "model/memory.hpp"

namespace empu {

class LoraAdapter;

struct Sequence {
    int capacity = 0;
    int length = 0;
    std::vector<std::shared_ptr<Memory>> blocks;
    std::shared_ptr<const LoraAdapter> adapter;  // null: the base model
};

enum class CacheFormat { Bfloat16, Int8 };

// Allocates blocks from slabs of many blocks, which share huge pages. A slab is freed when none of its blocks is in
// use, except the last one.
class BlockAllocator {
  public:
    BlockAllocator(size_t block_bytes, size_t memory_limit);
    // Return a zeroed block. Throws std::bad_alloc.
    std::shared_ptr<Memory> allocate();

  private:
    struct Slab;
    std::shared_ptr<Slab> slab_with_space();

    size_t block_bytes_;
    int blocks_per_slab_;
    std::vector<std::weak_ptr<Slab>> slabs_;
    std::shared_ptr<Slab> last_;
};

class KvCache {
  public:
    KvCache(CacheFormat format, int layers, int heads, int head_dim, size_t memory_limit);

    // Return the id of a new sequence. Throws Error if it can never fit, CacheFullError if it does not fit while the
    // others keep their full capacity.
    int64_t allocate(int capacity, std::shared_ptr<const LoraAdapter> adapter = nullptr);
    void release(int64_t id);
    // Return the id of a new sequence that starts with the first `length` positions of another. It keeps the adapter,
    // since the keys and values come from it.
    int64_t fork(int64_t id, int length, int capacity);
    void truncate(int64_t id, int length);
    Sequence& at(int64_t id);

    // Allocate the blocks of positions [length, length + count), and copy those that are shared. Throws std::bad_alloc.
    void make_writable(Sequence& sequence, int count);
    CacheFormat format() const { return format_; }
    CacheBlockBf16 block_bf16(const Sequence& sequence, int index, int layer, int head) const;
    CacheBlockInt8 block_int8(const Sequence& sequence, int index, int layer, int head) const;
    // Where key and value of one position begin. Pairs of a key's elements are `kKeyStride` apart, elements of a value
    // two.
    static constexpr int kKeyStride = 2 * kBlockKeys;
    struct SlotBf16 {
        uint16_t* key;
        uint16_t* value;
    };
    struct SlotInt8 {
        int8_t* key;
        int8_t* value;
        uint16_t* key_scale;
        uint16_t* value_scale;
    };
    SlotBf16 slot_bf16(const Sequence& sequence, int position, int layer, int head) const;
    SlotInt8 slot_int8(const Sequence& sequence, int position, int layer, int head) const;

    size_t block_bytes() const { return size_t(layers_) * size_t(heads_) * head_bytes_; }

  private:
    size_t capacity_bytes(int capacity) const;
    size_t value_offset(int position_in_block) const;
    uint8_t* head_data(const Sequence& sequence, int index, int layer, int head) const;

    CacheFormat format_;
    int layers_, heads_, head_dim_, padded_head_dim_;
    size_t head_bytes_;
    size_t limit_;
    size_t reserved_ = 0;
    BlockAllocator allocator_;
    int64_t next_id_ = 0;
    std::map<int64_t, Sequence> sequences_;
};

}  // namespace empu
