# Writes a blob as the header that `tonearm export` makes, for builds that have no `tonearm`: with what this example
# needs of it. The sizes are those that `tonearm inspect` prints; the program checks them.
#   cmake -D BLOB=... -D NAME=skip -D SESSION_BYTES=... -D SCRATCH_BYTES=... -D OUT=model.h -P model_header.cmake
file(READ ${BLOB} bytes HEX)
string(LENGTH "${bytes}" size)
math(EXPR size "${size} / 2")
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(TOUPPER ${NAME} upper)
file(WRITE ${OUT} "#define ${upper}_BYTES ${size}
#define ${upper}_SESSION_BYTES ${SESSION_BYTES}
#define ${upper}_SCRATCH_BYTES ${SCRATCH_BYTES}
static const unsigned char ${NAME}[] __attribute__((aligned(64))) = {${bytes}};
")
