// Package standin holds what the stand-ins for kubernetes-csi's programs have in common.
package standin

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Address adds upstream's option that names the driver's socket.
func Address() *string {
	return flag.String("csi-address", "/run/csi/socket", "socket of the driver, as seen here")
}

// Ignore adds options that upstream has and that change nothing here, beside those of its logs.
func Ignore(names ...string) {
	flag.Int("v", 0, "accepted and ignored")
	flag.Bool("logtostderr", true, "accepted and ignored")
	for _, name := range names {
		flag.String(name, "", "accepted and ignored")
	}
}

// UntilTold runs a program until it ends by itself or is told to end by SIGTERM or SIGINT.
func UntilTold(run func(context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Connect makes a connection to the driver, which may start later.
func Connect(address string) (*grpc.ClientConn, error) {
	socket := "unix://" + strings.TrimPrefix(address, "unix://")
	connection, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return connection, nil
}
