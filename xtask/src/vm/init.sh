#!/bin/bash
# The first process of a test VM. What is said to the host goes to a serial line of its own, not to
# the kernel's console, so that no kernel message ever cuts a line in two.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
chmod 666 /dev/ptmx
ln -sfn /proc/self/fd /dev/fd
hostname lastbyte-vm
echo '127.0.0.1 localhost lastbyte-vm' >/etc/hosts
ip link set lo up

# Where packages were only unpacked, what their scripts would have done.
if [ ! -f /etc/passwd ]; then
    ln -sf dash /bin/sh
    cp /usr/share/base-passwd/passwd.master /etc/passwd
    cp /usr/share/base-passwd/group.master /etc/group
    echo 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin' >>/etc/passwd
    sed 's/:.*/:*:19000:0:99999:7:::/' /etc/passwd >/etc/shadow
    mkdir -p /root /home
    ldconfig
fi

exec >"/dev/$LASTBYTE_REPORT" 2>&1 </dev/null
stty raw -F "/dev/$LASTBYTE_REPORT"
echo "LASTBYTE-VM: up $(uname -r)"
cd /tmp
setsid bash /lastbyte/script
echo "LASTBYTE-VM: rc=$?"
echo o >/proc/sysrq-trigger
# Power-off is asynchronous, and the kernel panics when init returns.
sleep 60
