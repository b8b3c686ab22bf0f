#!/bin/sh
# csi-sanity's --csi.createmountpathcmd: makes a new directory beside the suggested path and prints its name.
# New each time: a directory that a failed spec leaves behind does not fail the specs after it.
# usage: make-dir.sh SUGGESTED
set -eu
exec mktemp -d "$1.XXXXXXXX"
