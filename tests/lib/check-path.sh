#!/bin/sh
# csi-sanity's --csi.checkpathcmd: prints what stands at a path. Without it csi-sanity skips a spec as soon as
# directories are made by a command.
# usage: check-path.sh PATH
set -eu
if [ -f "$1" ]; then
    echo file
elif [ -d "$1" ]; then
    echo directory
elif [ -e "$1" ] || [ -L "$1" ]; then
    echo other
else
    echo not_found
fi
