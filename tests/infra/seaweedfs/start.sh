#!/bin/sh
# As root only until the folder has its owner, like the official image.
set -eu
if [ "$(id -u)" = 0 ]; then
    install -d -o redistill -g redistill -m 700 /data
    exec setpriv --reuid redistill --regid redistill --clear-groups sh "$0" "$@"
fi
command=$1
shift
exec /opt/seaweedfs/bin/weed "$command" -dir=/data -volume.max=0 -master.volumePreallocate -master.volumeSizeLimitMB=1024 "$@"
