// Command scheduler runs a job at a fixed interval on one of any number of machines.
// All of them run it and stand for election; if the one that leads dies, the next
// one goes on where it stopped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
)

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	every := flag.Duration("every", 10*time.Second, "time between two runs")
	ttl := flag.Duration("ttl", 15*time.Second, "how long after the death of a leader the next one leads")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, strings.Split(*endpoints, ","), *every, *ttl, os.Stdout); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve schedules until ctx ends.
func serve(ctx context.Context, endpoints []string, every, ttl time.Duration, out io.Writer) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	s := &scheduler{client: client, every: every, out: out, job: report}
	err = s.run(ctx, fmt.Sprintf("%s/%d", host, os.Getpid()), core.WithTTL(ttl))
	return errors.Join(err, client.Close())
}

// report is the job: in a real program, something that takes a while. Where it
// writes, the token keeps out a leader that has been replaced and does not know.
func report(_ context.Context, out io.Writer, run int64, token core.Token) error {
	_, err := fmt.Fprintf(out, "run %d token %d\n", run, int64(token))
	return err
}
