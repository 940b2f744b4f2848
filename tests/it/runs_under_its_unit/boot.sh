# Boots a systemd of its own: `sh boot.sh DIRECTORY`, as the first process of new namespaces for processes, mounts, cgroups,
# IPC and the host's name. Its root is this machine's, under a layer that is thrown away, with what stands in
# DIRECTORY/layer on top. Of the machine's units only those that need no device and touch no network are there.
set -eu
cd "$1"
mkdir work root
mount -t overlay -o "lowerdir=/,upperdir=$PWD/layer,workdir=$PWD/work" overlay root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9" "other 3"; do
    mknod -m 666 "dev/${node% *}" c 1 "${node#* }"
done
mknod -m 666 dev/tty c 5 0
for unit in usr/lib/systemd/system/*; do
    case ${unit##*/} in
    *.target | *.slice | systemd-journald* | systemd-sysusers.service | systemd-tmpfiles-setup.service) ;;
    *.service | *.socket | *.timer | *.path | *.mount | *.automount) ln -sf /dev/null "etc/systemd/system/${unit##*/}" ;;
    esac
done
: >etc/fstab
: >etc/machine-id
# No mere chroot: who is inside one gets no namespace for users, as PrivateUsers= needs.
mkdir before
pivot_root . before
umount -l before
# Credentials are mounted by a child, whose mounts have to come up to systemd.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system --unit=basic.target --show-status=no
