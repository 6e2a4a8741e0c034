// Marks functions that a CUDA compiler makes for its device, too, and those that it shall call there (floor 0).
#pragma once

#if defined(__CUDACC__)
#define LSTM_NATIVE_HOST_DEVICE __host__ __device__
#define LSTM_NATIVE_NOINLINE __noinline__
#else
#define LSTM_NATIVE_HOST_DEVICE
#define LSTM_NATIVE_NOINLINE
#endif
