// Package e2e is the Kubernetes end-to-end suite with nothing in it but the specs of external storage drivers.
//
// The whole suite takes 3.6 s to start and 100 MB; this one 0.2 s and 81 MB. It must be a test program, because the
// framework is written for one. `-storage.testdriver FILE` names the driver that is tested.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"

	suite "k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	// Each changes the framework when it is imported: dumps on failure, metrics, checks of nodes, short failure texts.
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"

	// The specs. Reading -storage.testdriver defines them, so this must be linked before flags are read.
	_ "k8s.io/kubernetes/test/e2e/storage/external"
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if extra := flag.Args(); len(extra) > 0 {
		fmt.Fprintf(os.Stderr, "e2e: takes only options, not %q\n", extra)
		os.Exit(2)
	}

	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	// StorageClass files of the driver file are looked up below -repo-root.
	if root := framework.TestContext.RepoRoot; root != "" {
		testfiles.AddFileSource(testfiles.RootFileSource{Root: root})
	}
	os.Exit(m.Run())
}

func TestExternalStorage(t *testing.T) {
	suite.RunE2ETests(t)
}
