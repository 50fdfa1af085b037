#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store-internal.h"

#define FUSE 0x65735546
#define EXT4 0xef53
#define TMPFS 0x01021994
#define OVERLAY 0x794c7630
#define BTRFS 0x9123683e
#define XFS 0x58465342

static void S1_network_file_systems_are_told_by_their_magic(void **state) {
    (void)state;
    assert_string_equal(store_network_filesystem(0x6969, NULL), "NFS");
    assert_string_equal(store_network_filesystem(0xff534d42, NULL), "CIFS");
    assert_string_equal(store_network_filesystem(0xfe534d42, NULL), "SMB");
    assert_string_equal(store_network_filesystem(0x01021997, NULL), "9P");
    assert_string_equal(store_network_filesystem((uint64_t)(int64_t)(int32_t)0xff534d42, NULL),
                        "CIFS"); /* 32-bit f_type */
}

static void local_file_systems_are_fine(void **state) {
    (void)state;
    static const uint32_t local[] = {EXT4, TMPFS, OVERLAY, BTRFS, XFS};
    for (size_t i = 0; i < ARRAY_SIZE(local); i++) assert_null(store_network_filesystem(local[i], "fuse.sshfs"));
}

static void S1_file_systems_of_fuse_are_told_by_their_type(void **state) {
    (void)state;
    assert_string_equal(store_network_filesystem(FUSE, "fuse.sshfs"), "fuse.sshfs");
    assert_string_equal(store_network_filesystem(FUSE, "fuse.glusterfs"), "fuse.glusterfs");
    assert_null(store_network_filesystem(FUSE, "fuseblk"));
    assert_null(store_network_filesystem(FUSE, "fuse.fuse-overlayfs"));
    assert_null(store_network_filesystem(FUSE, NULL));
}

static void a_line_of_mountinfo_gives_its_type_for_its_device_only(void **state) {
    (void)state;
    static const char line[] =
        "36 35 98:7 /mnt1 /mnt\\0402 rw,noatime shared:1 master:2 - fuse.sshfs host:/x rw,user_id=0\n";
    _cleanup_free_ char *type = store_mountinfo_type(line, 98, 7);
    assert_string_equal(type, "fuse.sshfs");
    assert_null(store_mountinfo_type(line, 98, 8));
    assert_null(store_mountinfo_type(line, 9, 7));
    assert_null(store_mountinfo_type("", 98, 7));
    assert_null(store_mountinfo_type("36 35 98:7 /mnt1 without a dash", 98, 7));
    _cleanup_free_ char *bare = store_mountinfo_type("1 2 3:4 / / rw - tmpfs", 3, 4);
    assert_string_equal(bare, "tmpfs");
}

static void S1_an_sqlite_that_may_damage_a_log_is_refused_with_its_version(void **state) {
    (void)state;
    struct error *error = NULL;
    assert_int_equal(store_check_sqlite_version(3051003, "3.51.3", &error), 0);
    assert_int_equal(store_check_sqlite_version(3053002, "3.53.2", &error), 0);
    assert_int_equal(store_check_sqlite_version(3051002, "3.51.2", &error), -(int)ERROR_CONFIGURATION);
    assert_non_null(strstr(error->message, "3.51.2"));
    assert_non_null(strstr(error->message, "3.51.3"));
    error_free(error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S1_network_file_systems_are_told_by_their_magic),
        cmocka_unit_test(local_file_systems_are_fine),
        cmocka_unit_test(S1_file_systems_of_fuse_are_told_by_their_type),
        cmocka_unit_test(a_line_of_mountinfo_gives_its_type_for_its_device_only),
        cmocka_unit_test(S1_an_sqlite_that_may_damage_a_log_is_refused_with_its_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
