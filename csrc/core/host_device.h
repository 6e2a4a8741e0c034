// Marks functions that a CUDA compiler makes for its device, too (floor 0).
#pragma once

#if defined(__CUDACC__)
#define LSTM_NATIVE_HOST_DEVICE __host__ __device__
#else
#define LSTM_NATIVE_HOST_DEVICE
#endif
