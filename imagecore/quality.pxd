cimport cython


@cython.locals(
    across="Py_ssize_t", below="Py_ssize_t", x="Py_ssize_t", y="Py_ssize_t", row="Py_ssize_t", column="Py_ssize_t", at="Py_ssize_t",
    tile="Py_ssize_t", here="int", left="int", right="int", up="int", down="int", slope_x="int", slope_y="int",
    corners="int", bend="int", rough="int",
)
cdef int _measure(
    const unsigned char[:] gray, Py_ssize_t width, Py_ssize_t height, long long[:] tiles, long long[:] phases
) except -1 nogil
