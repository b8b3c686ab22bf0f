// yaml2json reads YAML documents on standard input and writes each, as JSON, on a line of its own.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	if err := convert(bufio.NewReader(os.Stdin), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "yaml2json:", err)
		os.Exit(1)
	}
}

func convert(from *bufio.Reader, to io.Writer) error {
	documents := yaml.NewYAMLReader(from)
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object, err := yaml.ToJSON(document)
		if err != nil {
			return err
		}
		if string(object) == "null" { // a document of comments only
			continue
		}
		if _, err := fmt.Fprintf(to, "%s\n", object); err != nil {
			return err
		}
	}
}
