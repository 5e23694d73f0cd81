// All kernels and the faults that are planted to be found, in one file, so that none is left out of the library.
#include "emulate.cpp"

#include "all.cu"
#include "faults.cu"
