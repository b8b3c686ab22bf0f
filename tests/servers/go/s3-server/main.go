// Serves one bucket over S3's protocol, from memory, to those who sign with the right key. For tests: an object storage
// that is there within milliseconds, and whose data is gone with it.
//
//	s3-server --address 127.0.0.1:16380 --bucket NAME
//
// The key is in the environment: S3_ACCESS_KEY and S3_SECRET_KEY. It ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rclone/gofakes3"
	"github.com/rclone/gofakes3/s3mem"
)

// A test client that says nothing for this long is not there any more.
const headerLimit = 10 * time.Second

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	if err := serve(); err != nil {
		log.Fatalf("s3-server: %v", err)
	}
}

// The bucket that is there from the start is the only one: JuiceFS would make the one that it is told of.
type oneBucket struct{ *s3mem.Backend }

func (oneBucket) CreateBucket(context.Context, string) error {
	return gofakes3.ErrorMessage(gofakes3.ErrTooManyBuckets, "no further bucket can be made")
}

func serve() error {
	address := flag.String("address", "", "where to listen: ADDRESS:PORT")
	bucket := flag.String("bucket", "", "the bucket to have from the start")
	flag.Parse()
	access, secret := os.Getenv("S3_ACCESS_KEY"), os.Getenv("S3_SECRET_KEY")
	if *address == "" || *bucket == "" || access == "" || secret == "" {
		return errors.New("wanted: --address, --bucket, and in the environment S3_ACCESS_KEY and S3_SECRET_KEY")
	}
	storage := s3mem.New()
	if err := storage.CreateBucket(context.Background(), *bucket); err != nil {
		return err
	}
	s3 := gofakes3.New(oneBucket{storage}, gofakes3.WithV4Auth(map[string]string{access: secret}))
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	log.Printf("s3-server: the bucket %s is at http://%s/%s", *bucket, listener.Addr(), *bucket)
	server := http.Server{Handler: s3.Server(), ReadHeaderTimeout: headerLimit}
	return server.Serve(listener)
}
