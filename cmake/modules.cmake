# The may-use table. A module is a folder of src/; USES are the modules whose
# headers it may include, LIBS the libraries it is linked with.
# tools/lint-uses reads this file and checks every #include against it.

slipway_module(base       USES                                              LIBS yyjson crypto utf8proc inih math)
slipway_module(http       USES base                                         LIBS llhttp uv ssl crypto)
slipway_module(wire       USES base                                         LIBS)
slipway_module(store      USES base                                         LIBS sqlite)
slipway_module(collection USES base store                                   LIBS)
slipway_module(vector     USES base                                         LIBS math)
slipway_module(registry   USES base                                         LIBS curl crypto)
slipway_module(package    USES base                                         LIBS archive crypto)
slipway_module(target     USES base wire                                    LIBS)
slipway_module(supervisor USES base wire                                    LIBS)
slipway_module(gateway    USES base http wire store collection vector       LIBS uv curl)
slipway_module(indexer    USES base http wire store collection vector       LIBS uv)
slipway_module(controller USES base http wire store registry package target collection vector LIBS uv)
slipway_module(runner     USES base http wire                               LIBS uv onnxruntime utf8proc seccomp)
slipway_module(state      USES base store collection package registry vector   LIBS)
slipway_module(client     USES base                                         LIBS curl)
slipway_module(cli        USES base client state                            LIBS)

# Headers that only these modules may include.
slipway_header(llhttp.h            ONLY http)
slipway_header(sqlite3.h           ONLY store)
slipway_header(openssl/ssl.h      ONLY http)
slipway_header(uv.h                ONLY http gateway controller indexer runner)
slipway_header(curl/curl.h         ONLY registry client gateway)
slipway_header(onnxruntime_c_api.h ONLY runner)
