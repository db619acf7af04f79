# The arithmetic below is C; bounds are checked on Python integers before any of it runs.
cdef long long _nearest(long long numerator, long long denominator)
cdef long long _slide(long long side, long long part, long long focal)
