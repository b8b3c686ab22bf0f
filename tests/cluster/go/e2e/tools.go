//go:build tools

package e2e

// agnhost is a program of the same module that the specs start in pods.
import _ "k8s.io/kubernetes/test/images/agnhost"
