// Command ratelimit is an HTTP service whose rate limit is configuration: it
// changes while requests are served, and none of them is dropped for it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/config"
)

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	listen := flag.String("listen", "127.0.0.1:8080", "where to serve")
	fallback := flag.String("fallback", "", "file with a copy of the limits, to start with while etcd is away")
	flag.Parse()
	if err := run(*endpoints, *listen, *fallback); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(endpoints, listen, fallback string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoints, ","), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	var opts []config.Option
	if fallback != "" {
		opts = append(opts, config.WithFallbackFile(fallback))
	}
	limits, err := open(ctx, client, opts...)
	if err != nil {
		return err
	}
	defer limits.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return serve(ctx, l, newService(limits))
}

// serve answers requests until ctx ends, and then those that it has begun.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-served
	return err
}
