// Does the CSI driver beside this program still answer? A stand-in for kubernetes-csi's livenessprobe, which is not
// published as a Go module: GET /healthz is one Probe call to the driver.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"mountpod.test/sidecars/standin"
)

// A client that does not finish its request must not hold a connection for ever.
const headerLimit = 10 * time.Second

func main() {
	address := standin.Address()
	limit := flag.Duration("probe-timeout", time.Second, "how long one Probe may take")
	port := flag.String("health-port", "9808", "port of /healthz on all addresses, unless --http-endpoint is given")
	endpoint := flag.String("http-endpoint", "", "address and port of /healthz")
	standin.Ignore("metrics-address")
	flag.Parse()
	if *endpoint == "" {
		*endpoint = net.JoinHostPort("", *port)
	}
	standin.UntilTold(func(ctx context.Context) error { return run(ctx, *address, *endpoint, *limit) })
}

func run(ctx context.Context, address, endpoint string, limit time.Duration) error {
	connection, err := standin.Connect(address)
	if err != nil {
		return err
	}
	defer connection.Close()
	driver := csi.NewIdentityClient(connection)

	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", func(answer http.ResponseWriter, request *http.Request) {
		if err := probe(request.Context(), driver, limit); err != nil {
			log.Print(err)
			http.Error(answer, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = answer.Write([]byte("ok"))
	})
	server := &http.Server{Addr: endpoint, Handler: routes, ReadHeaderTimeout: headerLimit}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Printf("serving /healthz of %s on %s", address, endpoint)
	select {
	case <-ctx.Done():
		return server.Close()
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", endpoint, err)
	}
}

// probe fails when the driver does not answer in time, or says that it is not ready. No `ready` at all means ready (CSI
// specification, Probe).
func probe(ctx context.Context, driver csi.IdentityClient, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := driver.Probe(ctx, &csi.ProbeRequest{})
	if err != nil {
		return fmt.Errorf("the driver did not answer Probe: %w", err)
	}
	if ready := answer.GetReady(); ready != nil && !ready.GetValue() {
		return errors.New("the driver says that it is not ready")
	}
	return nil
}
