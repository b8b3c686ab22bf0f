// Pins the CustomResourceDefinitions of volume snapshots; see ../../lib/snapshots.sh.
module mountpod.test/snapshot-crds

go 1.24.0

require github.com/kubernetes-csi/external-snapshotter/client/v8 v8.6.0
