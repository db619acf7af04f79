cimport cython


@cython.locals(x="Py_ssize_t", y="Py_ssize_t", total="double")
cdef double _wave(const double[:] channel, Py_ssize_t width, Py_ssize_t height, const double[:] across, const double[:] down) except? -1.5 nogil

@cython.locals(i="Py_ssize_t", r="double", g="double", b="double")
cdef int _split(const unsigned char[:] rgb, Py_ssize_t pixels, double[:] light, double[:] yellow, double[:] red) except -1 nogil
