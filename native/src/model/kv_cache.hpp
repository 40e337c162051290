// The key/value cache: sequences made of blocks of 64 positions, each block holding all layers and heads.
//
// A block is taken when its first position is written, and may be shared by sequences that began alike; who writes into
// a shared block gets a copy first. Inside a block, for each layer and head: keys (head_dim / 2, 64, 2), then
// values (32, padded head_dim, 2), as bfloat16; or both as 8-bit numbers, then 64 scales of keys and 64 of values.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "kernels/ops.hpp"

namespace empu {

class Adapter;

struct Sequence {
    int capacity = 0;
    int length = 0;
    std::vector<std::shared_ptr<Memory>> blocks;
    std::shared_ptr<const Adapter> adapter;  // none: the model as it is
};

enum class CacheKind { Bfloat, Small };

// Memory for blocks, many to a piece, so that they share huge pages. A piece goes back to the system when none of its
// blocks is in use, but for the last one.
class BlockRoom {
  public:
    BlockRoom(size_t block_bytes, size_t memory_limit);
    // Zeroed. Throws std::bad_alloc.
    std::shared_ptr<Memory> take();

  private:
    struct Piece;
    std::shared_ptr<Piece> piece_with_room();

    size_t block_bytes_;
    int in_piece_;
    std::vector<std::weak_ptr<Piece>> pieces_;
    std::shared_ptr<Piece> last_;
};

class Cache {
  public:
    Cache(CacheKind kind, int layers, int heads, int head_dim, size_t memory_limit);

    // Throws Error when all sequences at their full capacity would need more than the limit.
    int64_t allocate(int capacity, std::shared_ptr<const Adapter> adapter = nullptr);
    void release(int64_t id);
    // The new sequence keeps the adapter, since its keys and values come from it.
    int64_t fork(int64_t id, int length, int capacity);
    void truncate(int64_t id, int length);
    Sequence& at(int64_t id);

    // Makes the blocks of positions [length, length + count) present and unshared. Throws std::bad_alloc.
    void prepare(Sequence& sequence, int count);
    CacheKind kind() const { return kind_; }
    CacheBlock block(const Sequence& sequence, int index, int layer, int head) const;
    SmallBlock small_block(const Sequence& sequence, int index, int layer, int head) const;
    // Where key and value of one position begin. Pairs of a key's elements stand `kKeyStep` apart, the elements of a
    // value two.
    static constexpr int kKeyStep = 2 * kBlockKeys;
    struct Slot {
        uint16_t* key;
        uint16_t* value;
    };
    struct SmallSlot {
        int8_t* key;
        int8_t* value;
        uint16_t* key_scale;
        uint16_t* value_scale;
    };
    Slot slot(const Sequence& sequence, int position, int layer, int head) const;
    SmallSlot small_slot(const Sequence& sequence, int position, int layer, int head) const;

    size_t block_bytes() const { return size_t(layers_) * size_t(heads_) * head_bytes_; }

  private:
    size_t reserved_bytes(int capacity) const;
    size_t value_at(int within) const;
    uint8_t* head_of(const Sequence& sequence, int index, int layer, int head) const;

    CacheKind kind_;
    int layers_, heads_, head_dim_, width_;
    size_t head_bytes_;
    size_t limit_;
    size_t reserved_ = 0;
    BlockRoom room_;
    int64_t next_ = 0;
    std::map<int64_t, Sequence> sequences_;
};

}  // namespace empu
