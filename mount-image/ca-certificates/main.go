// Which certificate authorities does the mount image trust? Prints them in PEM: the roots of Mozilla's store, as the
// Go project publishes them in a module. A module, because go.sum then says what is inside: the bundle of the machine
// that builds differs from machine to machine, and may hold authorities of its owner.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	for root := range bundle.Roots() {
		// Mozilla trusts such a root for older certificates only; a PEM file can't say that.
		if root.Constraint != nil {
			continue
		}
		if err := print(out, root.Certificate); err != nil {
			fail(err)
		}
	}
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func print(out *bufio.Writer, der []byte) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "# %s\n", certificate.Subject); err != nil {
		return err
	}
	return pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "ca-certificates: %v\n", err)
	os.Exit(1)
}
