#include <cmath>

#include "support.hpp"
#include "tune/lora_transformer.hpp"

namespace empu {

namespace {

struct Angles {
    std::vector<float> cosines, sines;
};

Angles make_angles(int tokens, int head_dim) {
    Angles angles;
    for (int token = 0; token < tokens; ++token) {
        for (int i = 0; i < head_dim / 2; ++i) {
            const float angle = float(token) / float(1 + i);
            angles.cosines.insert(angles.cosines.end(), 2, std::cos(angle));
            angles.sines.insert(angles.sines.end(), {-std::sin(angle), std::sin(angle)});
        }
    }
    return angles;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * double(b[i]);
    return sum;
}

}  // namespace

void test_tuning(Random& random) {
    TuneConfig config{};
    config.n_layers = random_int(random, 1, 2);
    config.n_kv_heads = random_int(random, 1, 2);
    config.n_heads = config.n_kv_heads * random_int(random, 1, 2);
    config.head_dim = 32 * random_int(random, 1, 2);
    config.dim = 32 * random_int(random, 1, 3);
    config.ffn_dim = 32 * random_int(random, 1, 4);
    config.rank = random_int(random, 1, 20);
    config.norm_eps = 1e-5f;
    config.lora_scale = 1.5f;
    for (bool& has_adapter : config.has_adapter) has_adapter = one_in(random, 2);
    config.has_adapter[size_t(random_int(random, 0, kNumProjections - 1))] = true;
    config.format = one_in(random, 2) ? WeightFormat::Q8 : WeightFormat::Float32;
    const Ops* tables[8];
    const int num_tables = available_ops(tables, 8);
    LoraTransformer transformer(config, random_int(random, 1, 3), tables[random_int(random, 0, num_tables - 1)]->name);
    for (int layer = 0; layer < config.n_layers; ++layer) {
        for (int projection = 0; projection < kNumProjections; ++projection) {
            const size_t count = size_t(config.inputs(projection)) * size_t(config.outputs(projection));
            transformer.set_weight(layer, projection, random_floats(random, count, 0.1f).data(), count);
        }
        const std::vector<float> ones(size_t(config.dim), 1.0f);
        transformer.set_norms(layer, ones.data(), ones.data(), ones.size());
    }
    std::vector<float> parameters = random_floats(random, transformer.num_parameters(), 0.1f);
    for (int round = 0; round < 3; ++round) {
        TuneBatch batch;
        batch.prefix = random_int(random, 0, 40);
        for (int i = random_int(random, 1, 4); i > 0; --i) batch.lengths.push_back(random_int(random, 1, 120));
        int tokens = batch.prefix;
        for (const int length : batch.lengths) tokens += length;
        const Angles angles = make_angles(tokens, config.head_dim);
        batch.cosines = angles.cosines.data();
        batch.sines = angles.sines.data();
        const size_t size = size_t(tokens) * size_t(config.dim);
        const std::vector<float> x = random_floats(random, size, 1), grad_out = random_floats(random, size, 1);
        const auto forward = [&](const std::vector<float>& some_parameters, bool save_for_backward) {
            std::vector<float> out(size);
            transformer.forward(x.data(), batch, some_parameters.data(), save_for_backward, out.data());
            return out;
        };
        const std::vector<float> out = forward(parameters, true);
        std::vector<float> grad_parameters(parameters.size()), grad_again(parameters.size());
        transformer.backward(grad_out.data(), grad_parameters.data());
        expect_equal_bits(forward(parameters, true).data(), out.data(), size, "a second pass gives another result");
        transformer.backward(grad_out.data(), grad_again.data());
        expect_equal_bits(grad_parameters.data(), grad_again.data(), grad_parameters.size(),
                          "a second pass gives other gradients");
        if (config.format != WeightFormat::Float32) continue;
        // Along the gradient, the output grows as fast as the gradient says.
        const double length = std::sqrt(dot(grad_parameters, grad_parameters));
        const double step = 1e-2;
        std::vector<float> ahead = parameters, behind = parameters;
        for (size_t i = 0; i < parameters.size(); ++i) {
            ahead[i] += float(step * grad_parameters[i] / length);
            behind[i] -= float(step * grad_parameters[i] / length);
        }
        const double slope =
            (dot(forward(ahead, false), grad_out) - dot(forward(behind, false), grad_out)) / (2 * step);
        expect(std::abs(slope - length) <= 0.02 * length + 0.01,
               "the gradient is " + std::to_string(length) + " and the output grows by " + std::to_string(slope));
    }
}

}  // namespace empu
