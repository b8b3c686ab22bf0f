// What does the kubelet need to hear of a CSI driver before it uses it? A stand-in for kubernetes-csi's
// node-driver-registrar, which is not published as a Go module: the same options (those that Mountpod's manifests
// use), the same socket, the same calls.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"mountpod.test/sidecars/standin"
)

const (
	// The driver may start later than this program; after this long the kubelet's restart backoff takes over.
	driverLimit = 60 * time.Second
	callLimit   = 5 * time.Second
	retryPause  = 500 * time.Millisecond
)

type options struct {
	csiAddress, kubeletPath, registrationDir, mode string
}

// registrar answers the kubelet's plugin watcher. A refused registration ends up in failed.
type registrar struct {
	registration.UnsafeRegistrationServer
	info   *registration.PluginInfo
	failed chan error
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return r.info, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if status.PluginRegistered {
		log.Printf("the kubelet has registered %s", r.info.Name)
		return &registration.RegistrationStatusResponse{}, nil
	}
	select {
	case r.failed <- fmt.Errorf("the kubelet refused %s: %s", r.info.Name, status.Error):
	default: // one refusal is enough
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	var o options
	csiAddress := standin.Address()
	flag.StringVar(&o.kubeletPath, "kubelet-registration-path", "", "socket of the driver, as the kubelet sees it")
	flag.StringVar(&o.registrationDir, "plugin-registration-path", "/registration", "directory of the registration socket")
	flag.StringVar(&o.mode, "mode", "registration", "'registration', or 'kubelet-registration-probe', which does nothing here")
	standin.Ignore("http-endpoint", "timeout")
	flag.Parse()
	o.csiAddress = *csiAddress
	if o.mode == "kubelet-registration-probe" {
		return
	}
	if o.kubeletPath == "" {
		log.Fatal("--kubelet-registration-path is required")
	}
	standin.UntilTold(func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) error {
	name, err := driverName(ctx, o.csiAddress)
	if err != nil {
		return err
	}
	socket := filepath.Join(o.registrationDir, name+"-reg.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	// Closing the listener removes the socket: the kubelet then forgets the driver.
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for the kubelet: %w", err)
	}
	served := &registrar{
		info: &registration.PluginInfo{
			Type: registration.CSIPlugin, Name: name, Endpoint: o.kubeletPath, SupportedVersions: []string{"1.0.0"},
		},
		failed: make(chan error, 1),
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, served)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	defer server.Stop()
	log.Printf("serving %s on %s", name, socket)
	select {
	case <-ctx.Done():
		return nil
	case err := <-served.failed:
		return err
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", socket, err)
	}
}

// driverName asks the driver until it answers, at most driverLimit.
func driverName(ctx context.Context, address string) (string, error) {
	connection, err := standin.Connect(address)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, driverLimit)
	defer cancel()
	for {
		info, err := pluginInfo(ctx, connection)
		if err == nil {
			return info.GetName(), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the driver at %s does not say its name: %w", address, err)
		case <-time.After(retryPause):
		}
	}
}

func pluginInfo(ctx context.Context, connection *grpc.ClientConn) (*csi.GetPluginInfoResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return csi.NewIdentityClient(connection).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{})
}
