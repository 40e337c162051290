// Randomised tests of the engine, sampling and training. Also run in builds with sanitizers: `make sanitize`.
//
//     empu_native_tests [MODELS [CALLS [TUNINGS [SEED]]]]
#include <cstdio>
#include <cstdlib>

#include "support.hpp"

int main(int count, char** arguments) {
    const auto argument = [&](int index, int default_value) {
        return count > index ? std::atoi(arguments[index]) : default_value;
    };
    const int models = argument(1, 40), calls = argument(2, 20000), tunings = argument(3, 20);
    const unsigned seed = unsigned(argument(4, 1));
    constexpr int kCallsPerModel = 500;
    const auto repeat = [&](const char* what, int times, auto&& test) {
        for (int i = 0; i < times; ++i) {
            empu::Random random(seed + unsigned(i));
            try {
                test(random);
            } catch (const std::exception& error) {
                std::printf("%s of seed %u: %s\n", what, seed + unsigned(i), error.what());
                std::exit(1);
            }
        }
    };
    const empu::Ops* tables[8];
    const int num_tables = empu::available_ops(tables, 8);
    std::printf("instruction sets:");
    for (int i = 0; i < num_tables; ++i) std::printf(" %s", tables[i]->name);
    std::printf("\n");
    repeat("model", models, empu::test_forward);
    std::printf("%d random models gave the same bits everywhere\n", models);
    repeat("encoder", models, empu::test_encoder);
    std::printf("%d random encoders gave the same bits everywhere\n", models);
    repeat("calls", calls / kCallsPerModel, [](empu::Random& random) { empu::test_calls(random, kCallsPerModel); });
    std::printf("%d random calls changed nothing else\n", calls);
    repeat("samples", calls, empu::test_sampling);
    std::printf("%d random samples passed their filters\n", calls);
    repeat("tuning", tunings, empu::test_tuning);
    std::printf("%d random shapes were tuned\n", tunings);
}
