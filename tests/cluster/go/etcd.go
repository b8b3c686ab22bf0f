// How is an etcd for one short-lived test cluster run inside this program?
package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdStartLimit bounds the wait for a single member to elect itself: milliseconds, unless the machine is very busy.
const etcdStartLimit = 60 * time.Second

// slowRequest: what takes longer is logged. Left at zero, as NewConfig leaves it, every request is.
const slowRequest = embed.DefaultWarningUnaryRequestDuration

// runEtcd serves `etcd DATA_DIR CLIENT_URL PEER_URL`: plain HTTP, one member, for loopback addresses.
func runEtcd(args []string) int {
	if len(args) != 3 {
		return fail(errors.New("usage: etcd DATA_DIR CLIENT_URL PEER_URL"))
	}
	config, err := etcdConfig(args[0], args[1], args[2])
	if err != nil {
		return fail(err)
	}
	if err := serveEtcd(config); err != nil {
		return fail(err)
	}
	return 0
}

func etcdConfig(dataDir, clientURL, peerURL string) (*embed.Config, error) {
	client, err := url.Parse(clientURL)
	if err != nil {
		return nil, fmt.Errorf("etcd: client URL: %w", err)
	}
	peer, err := url.Parse(peerURL)
	if err != nil {
		return nil, fmt.Errorf("etcd: peer URL: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = dataDir
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = []url.URL{*client}
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	config.WarningUnaryRequestDuration = slowRequest
	config.UnsafeNoFsync = true // the data do not outlive the test
	return config, nil
}

func serveEtcd(config *embed.Config) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-stop:
		return nil
	case <-time.After(etcdStartLimit):
		return fmt.Errorf("etcd: not ready after %s", etcdStartLimit)
	}
	select {
	case <-stop:
		return nil
	case err := <-etcd.Err():
		return fmt.Errorf("etcd: %w", err)
	}
}
