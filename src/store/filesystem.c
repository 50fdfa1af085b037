/* Where a database may not lie (S1). Locks and shared memory of a write-ahead log hold on one machine only, so what a
 * server elsewhere keeps is refused. Magic numbers: statfs(2) and linux/magic.h; FUSE has one for all its file systems,
 * which /proc/self/mountinfo (proc_pid_mountinfo(5)) tells apart. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store-internal.h"

#define FUSE_MAGIC 0x65735546u

static const struct {
    uint32_t magic;
    const char *name;
} network_magics[] = {
    {0x00006969, "NFS"},      {0x0000517b, "SMB"},    {0xff534d42, "CIFS"},  {0xfe534d42, "SMB"},
    {0x01021997, "9P"},       {0x5346414f, "AFS"},    {0x6b414653, "AFS"},   {0x73757245, "Coda"},
    {0x00c36400, "Ceph"},     {0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"},  {0x01161970, "GFS2"},
    {0x7461636f, "OCFS2"},    {0x0000564c, "NCP"},    {0xaad7aaea, "PanFS"}, {0x19830326, "BeeGFS"},
    {0x20030528, "OrangeFS"},
};

static const char *const network_fuse_types[] = {
    "fuse.sshfs",         "fuse.glusterfs", "fuse.s3fs",      "fuse.goofys",
    "fuse.gcsfuse",       "fuse.rclone",    "fuse.ceph",      "fuse.ceph-fuse",
    "fuse.juicefs",       "fuse.JuiceFS",   "fuse.mfs",       "fuse.moosefs",
    "fuse.lizardfs",      "fuse.davfs",     "fuse.davfs2",    "fuse.blobfuse",
    "fuse.blobfuse2",     "fuse.mount-s3",  "fuse.curlftpfs", "fuse.smbnetfs",
    "fuse.fuse-nfs",      "fuse.hdfs",      "fuse.fuse_dfs",  "fuse.seaweedfs",
    "fuse.mountpoint-s3", "fuse.cvmfs2",    "fuse.onedriver", "fuse.google-drive-ocamlfuse",
};

const char *store_network_filesystem(uint64_t magic, const char *type) {
    for (size_t i = 0; i < ARRAY_SIZE(network_magics); i++)
        if (network_magics[i].magic == (uint32_t)magic) return network_magics[i].name;
    if ((uint32_t)magic != FUSE_MAGIC || !type) return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(network_fuse_types); i++)
        if (!strcmp(network_fuse_types[i], type)) return network_fuse_types[i];
    return NULL;
}

char *store_mountinfo_type(const char *line, unsigned major, unsigned minor) {
    unsigned line_major, line_minor;
    if (sscanf(line, "%*u %*u %u:%u ", &line_major, &line_minor) != 2) return NULL;
    if (line_major != major || line_minor != minor) return NULL;
    const char *type = strstr(line, " - "); /* spaces inside a path are written as \040 */
    if (!type) return NULL;
    type += 3;
    return text_copy_bytes(type, strcspn(type, " \n"));
}

/* What mountinfo calls the file system of this device; NULL when it does not say. */
static char *mounted_type(dev_t device) {
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts) return NULL;
    char *type = NULL, *line = NULL;
    size_t room = 0;
    while (!type && getline(&line, &room, mounts) >= 0) type = store_mountinfo_type(line, major(device), minor(device));
    free(line);
    fclose(mounts);
    return type;
}

int store_check_filesystem(const char *path, struct error **ret_error) {
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder =
        slash ? text_copy_bytes(path, slash == path ? 1 : (size_t)(slash - path)) : text_copy(".");
    struct statfs filesystem;
    struct stat status;
    if (statfs(folder, &filesystem) < 0 || stat(folder, &status) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "look at the folder %s", folder);
    _cleanup_free_ char *type = (uint32_t)filesystem.f_type == FUSE_MAGIC ? mounted_type(status.st_dev) : NULL;
    const char *network = store_network_filesystem((uint64_t)filesystem.f_type, type);
    if (!network) return 0;
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "keep a database in %s: that folder is on a network file system (%s), where its locks do not hold; "
        "choose a state folder on a local disk",
        folder, network);
}
