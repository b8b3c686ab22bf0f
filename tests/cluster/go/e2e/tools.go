//go:build tools

package e2e

import (
	// Runs the specs in several processes at once.
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	// A program of the same module that the specs start in pods.
	_ "k8s.io/kubernetes/test/images/agnhost"
)
