# The libraries, each as a target dep::NAME that the table of modules names.
# tools/install-deps puts what Debian lacks under build/deps.

set(slipway_deps ${CMAKE_SOURCE_DIR}/build/deps)
list(PREPEND CMAKE_PREFIX_PATH ${slipway_deps}/sysroot/usr)
# An unpacked archive keeps its Debian layout, whatever the prefix is.
list(PREPEND CMAKE_LIBRARY_PATH ${slipway_deps}/sysroot/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE})

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

function(slipway_dependency name)
  add_library(dep_${name} INTERFACE)
  target_link_libraries(dep_${name} INTERFACE ${ARGN})
  add_library(dep::${name} ALIAS dep_${name})
endfunction()

# With the name that pkg-config knows it by.
function(slipway_pkgconfig_dependency name package)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${package})
  slipway_dependency(${name} PkgConfig::${name})
endfunction()

slipway_pkgconfig_dependency(uv libuv)
slipway_pkgconfig_dependency(curl libcurl)
slipway_pkgconfig_dependency(crypto libcrypto)
slipway_pkgconfig_dependency(ssl libssl)
slipway_pkgconfig_dependency(archive libarchive)
slipway_pkgconfig_dependency(utf8proc libutf8proc)
slipway_pkgconfig_dependency(yaml yaml-0.1)
slipway_pkgconfig_dependency(seccomp libseccomp)
slipway_pkgconfig_dependency(inih inih)

slipway_dependency(math m)

# Static where there is a static one: one file less to carry.
find_path(llhttp_include llhttp.h REQUIRED)
find_library(llhttp_library NAMES libllhttp.a llhttp REQUIRED)
slipway_dependency(llhttp ${llhttp_library})
target_include_directories(dep_llhttp SYSTEM INTERFACE ${llhttp_include})

find_path(yyjson_include yyjson.h REQUIRED)
find_library(yyjson_library NAMES libyyjson.a yyjson REQUIRED)
slipway_dependency(yyjson ${yyjson_library})
target_include_directories(dep_yyjson SYSTEM INTERFACE ${yyjson_include})

# The header only; the runner opens the library itself.
slipway_dependency(onnxruntime ${CMAKE_DL_LIBS})
target_include_directories(dep_onnxruntime SYSTEM INTERFACE ${slipway_deps}/onnxruntime/include)

# Ours has what Slipway needs and no more. Each connection is used by one thread
# at a time (a mutex beside it sees to that), so SQLite's own is left out.
if(EXISTS ${slipway_deps}/sqlite/sqlite3.c)
  add_library(slipway_sqlite STATIC ${slipway_deps}/sqlite/sqlite3.c)
  target_include_directories(slipway_sqlite SYSTEM INTERFACE ${slipway_deps}/sqlite)
  target_compile_options(slipway_sqlite PRIVATE -w)
  target_compile_definitions(slipway_sqlite PRIVATE
    SQLITE_THREADSAFE=2
    SQLITE_DQS=0                     # "text" is a name, never a string
    SQLITE_DEFAULT_SYNCHRONOUS=2     # FULL
    SQLITE_DEFAULT_WAL_SYNCHRONOUS=2
    SQLITE_DEFAULT_MEMSTATUS=0       # its counters are a lock on every allocation
    SQLITE_TRUSTED_SCHEMA=0
    SQLITE_LIKE_DOESNT_MATCH_BLOBS
    SQLITE_OMIT_DEPRECATED
    SQLITE_OMIT_LOAD_EXTENSION
    SQLITE_OMIT_SHARED_CACHE
    HAVE_FDATASYNC=1 HAVE_USLEEP=1 HAVE_LOCALTIME_R=1
    $<$<CONFIG:Debug>:SQLITE_ENABLE_API_ARMOR>)
  if(SLIPWAY_SANITIZE) # for our use of it; sanitizing SQLite itself takes two minutes
    target_compile_options(slipway_sqlite PRIVATE -fno-sanitize=all)
    target_compile_definitions(slipway_sqlite PRIVATE SQLITE_ENABLE_API_ARMOR)
  endif()
  slipway_dependency(sqlite slipway_sqlite m)
else()
  pkg_check_modules(sqlite REQUIRED IMPORTED_TARGET "sqlite3>=3.51.3")
  slipway_dependency(sqlite PkgConfig::sqlite)
endif()
