# Sourced by scripts/test, after packages.sh: what a virtual machine with a camera is made of. The kernel makes the camera (its module
# `vivid`), and few machines that run tests have that module; so the tests boot Debian's kernel, emulated. Debian's packages are unpacked
# into a folder and not installed: this machine keeps its kernel, and whatever it has of the emulator.
# shellcheck shell=bash

# install_vm FOLDER: puts `qemu` (an emulator that is ready to run), `vmlinuz` and `initrd` there, unless they are. The stamp is written last.
install_vm() {
  local folder=$1 stamp work ended=0
  stamp="$(sha256sum <"$vm_script") $(uname -m) $(command -v qemu-system-x86_64 || true)"
  [ "$(cat "$folder/installed" 2>/dev/null)" != "$stamp" ] || return 0
  have apt-get || {
    echo "the virtual machine is made of Debian's packages, and there is no apt-get" >&2
    return 1
  }
  # What is known of packages may be too old to be fetched.
  as_root apt-get update -qq
  rm -rf "$folder" && mkdir -p "$folder" && work=$(mktemp -d) || return 1
  (cd "$work" && vm_emulator "$folder" && vm_kernel && vm_initrd && mv kernel/boot/vmlinuz-* "$folder/vmlinuz" &&
    mv initrd.gz "$folder/initrd" && echo "$stamp" >"$folder/installed") || ended=1
  rm -rf "$work"
  return $ended
}
vm_script=$(realpath "${BASH_SOURCE[0]}")

# vm_emulator FOLDER: that of this machine, else Debian's with all the packages that it would bring.
vm_emulator() {
  local folder=$1 packages package libraries=usr/lib/x86_64-linux-gnu
  if have qemu-system-x86_64; then
    printf '#!/bin/sh\nexec qemu-system-x86_64 "$@"\n' >"$folder/qemu"
  else
    packages=$(apt-get install -s --no-install-recommends qemu-system-x86 | awk '/^Inst / {print $2}') && [ -n "$packages" ] || return 1
    # shellcheck disable=SC2086 # one word each
    apt-get download -qq $packages || return 1
    for package in ./*.deb; do dpkg-deb -x "$package" "$folder/emulator" && rm "$package" || return 1; done
    cat >"$folder/qemu" <<END
#!/bin/sh
at="$folder/emulator"
export LD_LIBRARY_PATH="\$at/$libraries:\$at/${libraries#usr/}" QEMU_MODULE_DIR="\$at/$libraries/qemu"
exec "\$at/usr/bin/qemu-system-x86_64" -L "\$at/usr/share/qemu" -L "\$at/usr/share/seabios" "\$@"
END
  fi
  chmod +x "$folder/qemu"
}

# vm_kernel: into ./kernel, and into ./modules which of its modules are needed, each after those that it needs.
vm_kernel() {
  local package version module
  package=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ {print $2; exit}') && version=${package#linux-image-} || return 1
  apt-get download -qq "$package" && dpkg-deb -x ./"$package"_*.deb kernel && depmod -b kernel "$version" || return 1
  for module in virtio_pci virtio_net virtio_rng 9pnet_virtio 9p vivid; do
    modprobe -d kernel -S "$version" -D "$module" || return 1
  done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' >modules
}

# vm_initrd: ./initrd.gz, whose first program gives this machine's programs to the virtual one and runs `run` of the folder that the
# tests share with it. The camera's driver is loaded by whoever wants a camera.
vm_initrd() {
  local module name number=100
  mkdir -p root/{dev,proc,sys,tmp,usr,share,programs,modules,etc/alternatives} || return 1
  while read -r module; do
    number=$((number + 1)) name=$number
    case $module in */vivid.ko*) name=vivid ;; esac
    case $module in
      *.xz) xz -dc "$module" >"root/modules/$name.ko" ;;
      *) cp "$module" "root/modules/$name.ko" ;;
    esac || return 1
  done <modules
  # Before the machine's programs are there.
  apt-get download -qq busybox-static && dpkg-deb -x ./busybox-static_*.deb shell || return 1
  cp shell{,/usr}/bin/busybox root/ 2>/dev/null
  [ -x root/busybox ] || return 1
  ln -s usr/bin usr/sbin usr/lib usr/lib64 root/ || return 1
  cat >root/init <<'END'
#!/busybox sh
set -e
for kind in devtmpfs:dev proc:proc sysfs:sys tmpfs:tmp; do /busybox mount -t "${kind%:*}" none "/${kind#*:}"; done
for module in /modules/1*.ko; do /busybox insmod "$module"; done
shared=trans=virtio,version=9p2000.L,msize=512000
for folder in usr etc/alternatives programs share; do
  /busybox mount -t 9p -o "ro,cache=loose,$shared" "${folder#etc/}" "/$folder"
done
/busybox ip link set lo up
/busybox ip addr add 10.0.2.15/24 dev eth0
/busybox ip link set eth0 up
/busybox ip route add default via 10.0.2.2
export PATH=/usr/sbin:/usr/bin HOME=/tmp
/bin/sh /share/run
/busybox poweroff -f
END
  chmod +x root/init
  (cd root && find . | LC_ALL=C sort | cpio --quiet --create --format=newc --owner=0:0 | gzip -1) >initrd.gz
}
